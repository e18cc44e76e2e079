"""Models that train on one device and on several, with equal results.

Each scenario makes a compiled model; `trained` trains it for ten steps on all of the data,
or on the part of each batch that one of several processes has.
"""

import contextlib
import json
import traceback
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import qframe as qf
from fitting import WITHOUT_XLA, network
from qframe.quantizers import Quantizer

BATCH, STEPS = 16, 10
_RNG = np.random.default_rng(0)
# One half of each batch is wider than the other: a range of a half is not that of all.
_WIDTHS = np.where(np.arange(BATCH * STEPS) % BATCH < BATCH // 2, 1, 3)[:, None]
X = (_RNG.normal(size=(BATCH * STEPS, 6)) * _WIDTHS).astype("float32")
Y = _RNG.normal(size=(BATCH * STEPS, 2)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Stranger(Quantizer):
    """A quantizer whose state ignores replicas."""

    precision = 8

    def build(self, input_shape):
        options = {"shape": (), "initializer": "zeros", "trainable": False}
        self.mean = self.add_weight(name="mean", **options)
        self.count = self.add_weight(name="count", dtype="int32", **options)

    def call(self, inputs, training=False):
        mean = ops.convert_to_tensor(self.mean)
        if training:
            self.mean.assign(0.5 * mean + 0.5 * ops.mean(inputs))
            self.count.assign(self.count + 1)
        return inputs - 0.1 * ops.cast(mean, inputs.dtype)


def signs():
    settings = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    return network(
        qf.layers.QuantDense(8, use_bias=False, **settings),
        qf.layers.QuantDense(2, input_quantizer="ste_sign", **settings),
        optimizer=keras.optimizers.Adam(0.05),
    )


def ranges():
    kernel = {"kernel_quantizer": "integer(bits=4, granularity='channel')"}
    gathered = "integer(gather='moving_average', momentum=0.5, symmetric=False)"
    widest = "integer(gather='widest', granularity='channel')"
    if keras.backend.backend() == "jax":
        # Elsewhere each part of a batch of activations draws the same numbers.
        widest = widest.replace(")", ", rounding='stochastic', seed=3)")
    return network(
        qf.layers.QuantDense(8, input_quantizer=gathered, **kernel),
        qf.layers.QuantDense(2, input_quantizer=widest, **kernel),
    )


def steps():
    return network(
        qf.layers.QuantDense(
            8, kernel_quantizer="lsq(per_channel=True)", input_quantizer="lsq"
        ),
        qf.layers.QuantDense(
            8, kernel_quantizer="trained_ternary", input_quantizer="lsq_plus"
        ),
        qf.layers.QuantDense(2, kernel_quantizer="lsq(bits=3)", input_quantizer="pact"),
        optimizer=keras.optimizers.SGD(0.05),
    )


def stranger():
    return network(qf.layers.QuantDense(2, input_quantizer=Stranger()))


def plain():
    # A sum of whole steps may be 0, or what rounding leaves of it: without a bias the order
    # of additions would decide whether a ReLU has a gradient.
    bias = keras.initializers.Constant(0.1)
    hidden = layers.Dense(8, activation="relu", bias_initializer=bias)
    return network(hidden, layers.Dense(2))


def quantized(model=None):
    model = model or plain()
    rules = [
        (qf.first, {"kernel_quantizer": "lsq", "input_quantizer": "lsq"}),
        (
            layers.Dense,
            {
                "kernel_quantizer": "integer(rounding='stochastic', seed=3)",
                "input_quantizer": "integer(gather='widest')",
            },
        ),
    ]
    qf.quantize(model, rules)
    model.compile(keras.optimizers.SGD(0.05), "mse", **WITHOUT_XLA)
    return model


def flips():
    binary = {"kernel_quantizer": "noop(precision=1)", "use_bias": False}
    return network(
        qf.layers.QuantDense(8, **binary),
        qf.layers.QuantDense(8, input_quantizer="ste_sign", **binary),
        layers.Dense(2),
        optimizer=qf.optimizers.CaseOptimizer(
            (
                qf.optimizers.Bop.is_binary_variable,
                qf.optimizers.Bop(threshold=1e-3, gamma=0.1),
            ),
            default_optimizer=keras.optimizers.Adam(0.01),
        ),
    )


def distilled():
    softmax = layers.Activation("softmax")
    student = network(
        qf.layers.QuantDense(2, kernel_quantizer="lsq", input_quantizer="lsq"), softmax
    )
    teacher = network(layers.Dense(2), layers.Activation("softmax"))
    model = qf.distill(student, teacher, temperature=2.0)
    model.compile(keras.optimizers.Adam(0.01), "mse", **WITHOUT_XLA)
    return model


def normalized(synchronized=True):
    # On JAX a batch is one tensor anyhow, and Keras takes no such word.
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return network(
        qf.layers.QuantDense(
            8, kernel_quantizer="ste_tern", kernel_constraint="weight_clip"
        ),
        layers.BatchNormalization(synchronized=synchronized and on_tensorflow),
        qf.layers.QuantDense(2, input_quantizer="integer(gather='moving_average')"),
    )


SCENARIOS = {
    make.__name__: make
    for make in (signs, ranges, steps, stranger, quantized, flips, distilled, normalized)
}


def arrays(model):
    """All variables of a model."""
    return [ops.convert_to_numpy(variable) for variable in model.variables]


def pair():
    """A model, and the same one quantized."""
    first = plain()
    second = keras.models.clone_model(first)
    second.set_weights(first.get_weights())
    qf.quantize(second, {"kernel_quantizer": "ste_sign", "input_quantizer": "dorefa"})
    return first, second


def reported(first, second):
    """The figures of a report on a model, and of its comparison with another."""
    result = qf.report(second, X, verbose=0).activations
    result += qf.compare(first, second, X, verbose=0).layers
    noises = [layer.noise for layer in sorted(result, key=lambda layer: layer.path)]
    return [np.array([noise.signal, noise.noise, noise.product]) for noise in noises]


def trained(model, x=X, y=Y, batch_size=BATCH):
    """The variables after ten steps, and the loss."""
    history = model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
    return [*arrays(model), np.array(history.history["loss"])]


class Notes:
    """The results of a process for its test: arrays and facts by name."""

    def __init__(self, folder, who):
        self.folder, self.who, self.facts = Path(folder), who, {}

    @contextlib.contextmanager
    def attempt(self, name):
        """Note an error, and go on to the next."""
        try:
            yield
        except Exception as error:
            self.facts[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()

    def arrays(self, name, result):
        np.savez(self.folder / f"{name}.npz", *result)

    def write(self):
        (self.folder / f"{self.who}.json").write_text(json.dumps(self.facts), "utf-8")
