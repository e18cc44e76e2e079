"""A decoder of text in 4 bits with groups of 64, rounded by qframe and by Keras itself.

The text is the source of Python's standard library, byte by byte, split by files. The
columns are the loss on unseen text in nats for each byte, its increase over that of the
float model, and the seconds of the method. Each method takes the same 256 windows, and
leaves embeddings, normalizations and the last layer in float.

GPTQ and AWQ of Keras 3.15 see no inputs: layers are quantized first, and the hooks that
gather the inputs are on `call`, which quantized layers do not use any more (pull request
23512 of keras-team/keras). The rows "with inputs" have these hooks where they are used.

Run by ``tox run -e bench``; it takes some 15 minutes on two cores.
"""

import contextlib
import os
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from benchmarks.timing import show

LENGTH, BYTES, WIDTH, DEPTH, HEADS = 64, 128, 128, 4, 4
STEPS, BATCH, WINDOWS, UNSEEN = 1500, 32, 256, 1024
GROUPS = "integer(bits=4, {}, granularity='group', group_size=64)"
SYMMETRIC, AFFINE = GROUPS.format("narrow_range=True"), GROUPS.format("symmetric=False")


def texts():
    """The bytes of seven files in eight, to train with, and of the eighth, unseen."""
    parts = [], []
    for i, path in enumerate(sorted(Path(os.__file__).parent.glob("*.py"))):
        numbers = np.frombuffer(path.read_bytes(), np.uint8)
        parts[i % 8 == 0].append(numbers[numbers < BYTES].astype("int32"))
    return [np.concatenate(part) for part in parts]


def windows(text, count, seed):
    starts = np.random.default_rng(seed).integers(0, len(text) - LENGTH, count)
    found = np.lib.stride_tricks.sliding_window_view(text, LENGTH + 1)[starts]
    return found[:, :-1], found[:, 1:]


class Embeddings(layers.Layer):
    """The sum of the embeddings of bytes and of places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bytes, self.places = (
            layers.Embedding(BYTES, WIDTH),
            layers.Embedding(LENGTH, WIDTH),
        )

    def build(self, shape):
        self.bytes.build()
        self.places.build()

    def call(self, x):
        return self.bytes(x) + self.places(ops.arange(LENGTH))


def block(name):
    x = keras.Input((LENGTH, WIDTH))
    y = layers.LayerNormalization()(x)
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
    z = x + attention(y, y, use_causal_mask=True)
    y = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(z))
    return keras.Model(x, z + layers.Dense(WIDTH)(y), name=name)


def decoder():
    x = keras.Input((LENGTH,), dtype="int32")
    y = Embeddings(name="embeddings")(x)
    for i in range(DEPTH):
        y = block(f"block_{i}")(y)
    y = layers.LayerNormalization()(y)
    return keras.Model(x, layers.Dense(BYTES, name="head")(y))


def trained(text):
    keras.utils.set_random_seed(0)
    model = decoder()
    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, STEPS, warmup_target=2e-3, warmup_steps=STEPS // 20
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.05, clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = windows(text, STEPS * BATCH, 0)
    model.fit(x, y, batch_size=BATCH, verbose=0)
    return model


def loss(model, x, y):
    logits = ops.convert_to_tensor(model.predict(x, batch_size=128, verbose=0))
    values = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    return float(ops.mean(values))


def rounded(model, x, recipe, method=None, equalize=False):
    """Quantize the blocks of a model by qframe."""
    if equalize:
        qf.equalize(model, x, "awq", bits=4, group_size=64, verbose=0)
    qf.quantize(model, [("re:^block_", {"weight_quantizer": recipe})])
    if method is not None:
        qf.round_weights(model, x, method, verbose=0)


class Numbers:
    """A tokenizer of what is numbers already."""

    def tokenize(self, numbers):
        return numbers


def of_keras(model, x, config, **settings):
    """Quantize the blocks of a model by Keras."""
    blocks = [layer for layer in model.layers if layer.name.startswith("block_")]
    inner = {id(layer) for each in blocks for layer in each._flatten_layers()}
    structure = {
        "pre_block_layers": [model.get_layer("embeddings")],
        "sequential_blocks": blocks,
    }
    config = config(
        dataset=list(x),
        tokenizer=Numbers(),
        num_samples=len(x),
        sequence_length=LENGTH,
        group_size=64,
        quantization_layer_structure=structure,
        **settings,
    )
    model.quantize(config.mode, config=config, filters=lambda layer: id(layer) in inner)


def gathering(method):
    """A replacement for the hooks of Keras, on the calls that quantized layers use."""

    @contextlib.contextmanager
    def hooks(found, objects):
        def hooked(name, call):
            def hook(*args, **kwargs):
                x = args[0] if args else kwargs["inputs"]
                getattr(objects[name], method)(ops.reshape(x, (-1, objects[name].rows)))
                return call(*args, **kwargs)

            return hook

        for name, layer in found.items():
            layer.quantized_call = hooked(name, layer.quantized_call)
        yield
        for layer in found.values():
            del layer.quantized_call

    return hooks


@contextlib.contextmanager
def with_inputs():
    from keras.src.quantizers import awq_core, gptq_core

    with pytest.MonkeyPatch.context() as patch:
        hooks = gathering("update_hessian_with_batch")
        patch.setattr(gptq_core, "stream_hessians", hooks)
        hooks = gathering("update_activation_magnitudes")
        patch.setattr(awq_core, "stream_activations", hooks)
        yield


def gptq(**settings):
    return lambda model, x: of_keras(model, x, keras.quantizers.GPTQConfig, **settings)


def awq(**settings):
    return lambda model, x: of_keras(model, x, keras.quantizers.AWQConfig, **settings)


OURS = {
    "nearest, symmetric": lambda m, x: rounded(m, x, SYMMETRIC),
    "nearest": lambda m, x: rounded(m, x, AFFINE),
    "gptq, symmetric": lambda m, x: rounded(m, x, SYMMETRIC, "gptq"),
    "gptq": lambda m, x: rounded(m, x, AFFINE, "gptq"),
    "awq, symmetric": lambda m, x: rounded(m, x, SYMMETRIC, equalize=True),
    "awq": lambda m, x: rounded(m, x, AFFINE, equalize=True),
    "awq and gptq": lambda m, x: rounded(m, x, AFFINE, "gptq", equalize=True),
}
THEIRS = {
    "GPTQ": gptq(),
    "GPTQ, activation_order": gptq(activation_order=True),
    "GPTQ, activation_order, damping 0.1": gptq(activation_order=True, hessian_damping=0.1),
    "AWQ": awq(),
    "AWQ, 40 points": awq(num_grid_points=40),
    "AWQ, 100 points": awq(num_grid_points=100),
}


@pytest.mark.skipif(
    not hasattr(keras.quantizers, "AWQConfig"), reason="GPTQ and AWQ are new in later Keras"
)
def test_decoder_in_four_bits():
    text, unseen = texts()
    model, x, (unseen_x, unseen_y) = (
        trained(text),
        windows(text, WINDOWS, 7)[0],
        windows(unseen, UNSEEN, 1),
    )
    in_float, losses, rows = loss(model, unseen_x, unseen_y), {}, []

    def measure(name, method):
        copy = decoder()
        copy.set_weights(model.get_weights())
        start = time.perf_counter()
        method(copy, x)
        seconds = time.perf_counter() - start
        losses[name] = loss(copy, unseen_x, unseen_y) - in_float
        rows.append([name, f"{1000 * losses[name]:.2f}", f"{seconds:.0f}"])

    for name, method in OURS.items():
        measure(f"qframe {name}", method)
    for name in ("GPTQ", "AWQ"):
        measure(f"Keras {name}, as released", THEIRS[name])
    with with_inputs():
        for name, method in THEIRS.items():
            measure(f"Keras {name}, with inputs", method)
    show(
        f"{model.count_params():,} parameters, {in_float:.4f} nats for each unseen byte, "
        f"Keras {keras.__version__}",
        ["", "increase, 1/1000 nats", "seconds"],
        rows,
    )

    # AWQ is not compared: with either of both, the increase is that of the nearest levels,
    # to a tenth, and which one is smaller depends on the network.
    def best(start):
        return min(value for name, value in losses.items() if name.startswith(start))

    assert best("qframe gptq") <= best("Keras GPTQ")
