"""Operations between layers, as Keras keeps them in functional models."""

import keras
import numpy as np
import pytest
from keras import ops

import qframe as qf
from qframe.deployment.graph.reference import tensors_of
from qframe.deployment.lowering import ExportTarget, lower
from qframe.errors import ExportError

pytestmark = [pytest.mark.ends, pytest.mark.two_backends]
TARGET = ExportTarget("mine")
ROW = np.array([0.5, -2, 3, 1], "float32")

# From tensors (batch, 3, 5, 4) to another.
ONE = {
    "a constant is added": lambda x: x + 3.0,
    "a row is added": lambda x: x + ROW,
    "a row with axes is added": lambda x: x + ROW.reshape(1, 1, 1, 4),
    "a constant is the first": lambda x: 2 - x,
    "a constant is subtracted": lambda x: x - ROW,
    "a product": lambda x: x * 0.5,
    "a product with a row": lambda x: ops.multiply(ROW, x),
    "a quotient": lambda x: x / 3,
    "a negation": lambda x: -x,
    "a hard sigmoid by hand": lambda x: ops.relu6(x + 3.0) * (1.0 / 6.0),
    "a square": lambda x: x**2,
    "a root": lambda x: ops.sqrt(ops.square(x) + 1e-3),
    "an absolute": ops.absolute,
    "an exponential": ops.exp,
    "a clip": lambda x: ops.clip(x, -0.5, 1.5),
    "a maximum": lambda x: ops.maximum(x, 0.25),
    "a minimum": lambda x: ops.minimum(1, x),
    "relu": ops.relu,
    "relu of activations": lambda x: keras.activations.relu(x, 0.1, 2.0, 0.5),
    "leaky relu": lambda x: ops.leaky_relu(x, negative_slope=0.3),
    "elu": lambda x: ops.elu(x, alpha=0.5),
    "selu": ops.selu,
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "gelu by tanh": lambda x: ops.gelu(x, approximate=True),
    "silu": ops.silu,
    "hard silu": ops.hard_silu,
    "hard sigmoid": ops.hard_sigmoid,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "softplus": ops.softplus,
    "softsign": ops.softsign,
    "softmax": lambda x: ops.softmax(x, axis=-1),
    "a mean": lambda x: ops.mean(x, axis=(1, 2)),
    "a mean with axes": lambda x: ops.mean(x, axis=[1, 2], keepdims=True),
    "a largest": lambda x: ops.max(x, axis=(-3, -2)),
    "a reshape": lambda x: ops.reshape(x, (-1, 15, 4)),
    "axes in another order": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "axes of one": lambda x: ops.squeeze(ops.expand_dims(x, (1, -1)), axis=(1, 5)),
    "a slice": lambda x: x[:, 1:, ::2],
    "a number of an axis": lambda x: x[:, -1, ..., 1:3],
    "a new axis": lambda x: x[..., None, :],
    "both parts": lambda x: ops.concatenate([x, 2 * x], axis=-1),
    "a cast to what it is": lambda x: ops.cast(x, "float32"),
}
TWO = {
    "a sum": lambda x, y: x + y,
    "a difference": lambda x, y: x - y,
    "a product": lambda x, y: ops.multiply(x, y),
    "a quotient": lambda x, y: x / (2 + y),
    "a true quotient": lambda x, y: ops.true_divide(x, 2 + y),
    "the larger": ops.maximum,
    "the smaller": ops.minimum,
    "a product with a mean": lambda x, y: x * ops.mean(y, axis=(1, 2), keepdims=True),
}


def assert_as_in_keras(function, count, quantizer=None):
    inputs = [keras.Input((3, 5, 4)) for _ in range(count)]
    tensors = inputs if quantizer is None else [quantizer(x) for x in inputs]
    model = keras.Model(inputs, function(*tensors))
    rng = np.random.default_rng(0)
    x = list(rng.uniform(-1.8, 1.8, (count, 2, 3, 5, 4)).astype("float32"))
    graph = lower(model, TARGET)
    found = tensors_of(graph, *x)[graph.outputs[0]]
    expected = keras.ops.convert_to_numpy(model(x if count > 1 else x[0]))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("case", ONE)
def test_an_operation_computes_what_keras_does(case):
    assert_as_in_keras(ONE[case], 1)


@pytest.mark.parametrize("case", TWO)
def test_an_operation_of_two_tensors_computes_what_keras_does(case):
    assert_as_in_keras(TWO[case], 2)


@pytest.mark.parametrize("case", ["a sum", "the larger"])
def test_an_operation_of_quantized_tensors(case):
    assert_as_in_keras(TWO[case], 2, qf.quantizers.get("dorefa(k_bit=3)"))


REFUSED = {
    "an unsupported operation": (lambda x: ops.sort(x), r"no such operation.*Add"),
    "an image for a constant": (
        lambda x: x + np.ones((3, 5, 4), "f4"),
        "one for each",
    ),
    "a quotient of a constant": (lambda x: 1 / x, "divide of a constant and a tensor"),
    "a quotient by zero": (lambda x: x / 0.0, "not finite"),
    "another power": (lambda x: x**3, "a power other than 2 and 0.5"),
    "a mean of the batch": (lambda x: ops.mean(x, axis=0), r"reduces axes \[0\]"),
    "a mean of channels": (lambda x: ops.mean(x, axis=-1), r"reduces axes \[3\]"),
    "a softmax of rows": (lambda x: ops.softmax(x, axis=1), "runs along axis 1"),
    "a batch in a shape": (lambda x: ops.reshape(x, (-1, 4)), "does not fit"),
    "an unknown in a shape": (lambda x: ops.reshape(x, (2, -1, 4)), "-1 for the batch"),
    "an axis of the batch": (lambda x: ops.transpose(x, (1, 0, 2, 3)), "of the batch"),
    "a slice of the batch": (lambda x: x[:1, :], "samples of the batch"),
    "a slice backwards": (lambda x: x[:, ::-1], "counts backwards"),
    "integers": (lambda x: ops.cast(x, "int32"), "computes in int32"),
    "a constant beside": (
        lambda x: ops.concatenate([x, np.ones((1, 3, 5, 4), "float32")], axis=-1),
        "joins a tensor and a constant",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_operation_is_refused_with_the_reason(case):
    function, reason = REFUSED[case]
    x = keras.Input((3, 5, 4), batch_size=1 if case == "a constant beside" else None)
    with pytest.raises(ExportError, match=reason) as caught:
        lower(keras.Model(x, function(x)), TARGET)
    assert "the operation '" in str(caught.value)


def test_an_operation_of_a_user_is_refused():
    class Doubled(keras.Operation):
        def call(self, x):
            return 2 * x

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    x = keras.Input((3,))
    with pytest.raises(ExportError, match=r"\(Doubled\): the target has no such operation"):
        lower(keras.Model(x, Doubled()(x)), TARGET)
