"""The overhead of quantization in a training step, against the same model in float.

The models are in one process and take turns, step by step; a ratio is that of the medians.
Run by ``tox run -e bench``.
"""

import attrs
import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from benchmarks.timing import interleaved, show

ROUNDS, BATCH = 60, 64
SIGN = {"weight_quantizer": "ste_sign", "weight_constraint": "weight_clip"}
BINARY = [(qf.first, SIGN), (layers.Layer, {**SIGN, "input_quantizer": "ste_sign"})]


FOUR_BITS = {"weight_quantizer": "dorefa(k_bit=4, mode='weights')"}


def convolution(filters, padding="valid"):
    return layers.Conv2D(filters, 3, padding=padding, use_bias=False)


def normalization():
    return layers.BatchNormalization(scale=False)


def tutorial():
    return [
        keras.Input((28, 28, 1)),
        *[convolution(32), layers.MaxPooling2D(), normalization()],
        *[convolution(64), layers.MaxPooling2D(), normalization()],
        *[convolution(64), normalization(), layers.Flatten()],
        *[layers.Dense(64, use_bias=False), normalization()],
    ]


def four_convolutions():
    pairs = [[convolution(64, "same"), normalization()] for _ in range(4)]
    body = [layer for pair in pairs for layer in pair]
    return [keras.Input((16, 16, 3)), *body, layers.GlobalAveragePooling2D()]


def recurrent():
    return [keras.Input((60, 32)), layers.LSTM(64)]


@attrs.frozen
class Case:
    name: str
    body: object
    rules: dict
    goal: float

    def models(self, jit):
        """The model in float, once more to see the noise, and one for each of the rules."""
        models = {}
        for name, rules in {"float": None, "float again": None, **self.rules}.items():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([*self.body(), layers.Dense(10), layers.Softmax()])
            if rules is not None:
                assert qf.quantize(model, rules).quantized
            model.compile("adam", "sparse_categorical_crossentropy", jit_compile=jit)
            models[name] = model
        return models


KERNELS = [("Dense", None), (layers.Layer, SIGN)]
CASES = [
    Case("tutorial", tutorial, {"W1A1": BINARY, "W4": FOUR_BITS}, 1.10),
    Case("4 x 64 channels", four_convolutions, {"W1A1": BINARY, "W4": FOUR_BITS}, 1.10),
    Case("LSTM, 60 steps", recurrent, {"W1": KERNELS, "W4": FOUR_BITS}, 1.15),
]


# The ways to run a step, and the argument of Keras that compiles it.
MODES = {
    "tensorflow": {"graph": False, "xla": True},
    "jax": {"xla": True},
    "torch": {"eager": False},
}[keras.backend.backend()]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_step(case, mode):
    models = case.models(jit=MODES[mode])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, *models["float"].input_shape[1:])).astype("float32")
    y = rng.integers(0, 10, BATCH)
    steps = {
        name: lambda model=model: model.train_on_batch(x, y)
        for name, model in models.items()
    }
    medians = interleaved(steps, ROUNDS)
    show(
        f"{case.name}: a training step of {BATCH}, {keras.backend.backend()}, {mode}",
        ["model", "ms", "ratio", "goal"],
        [
            [
                name,
                f"{1e3 * median:.1f}",
                f"{median / medians['float']:.3f}",
                f"<= {case.goal:.2f}" if name in case.rules else "",
            ]
            for name, median in medians.items()
        ],
    )
