"""The channel axes of adapters against what the layers compute."""

import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from layer_cases import CASES
from qframe.keras_internals import ConvLSTMCell
from qframe.layers.adapters import ADAPTERS, adapter_of
from qframe.layers.slots import slot_of


def numbers(*shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def call(layer, x):
    return layer(x)


def step(cell, x):
    """One step of a cell in time, from states that are not zero."""
    count = len(cell.state_size) if isinstance(cell.state_size, (list, tuple)) else 1
    units = cell.filters if isinstance(cell, ConvLSTMCell) else cell.units
    count = 2 if isinstance(cell, ConvLSTMCell) else count
    state = np.full((*x.shape[:-1], units), 0.4, "float32")
    return cell(x, [state] * count)[0]


def looked_up(layer, tokens):
    """The vectors of all tokens, with a token as the unit."""
    return ops.swapaxes(layer(tokens), 1, -1)


def reversed_(layer, vectors):
    return layer(vectors, reverse=True)


def of_case(case):
    # Of what a separable convolution computes first, the second kernel shows one at a time.
    filters = {"filters": 4} if "filters" in case.arguments else {}
    run = looked_up if case.name == "Embedding" else call
    x = np.arange(7)[None] if case.name == "Embedding" else case.inputs()
    units = 2 if case.name == "EinsumDense" else 1
    return lambda: case.float_layer(**filters), x, run, units


def einsum(equation, shape):
    return lambda: layers.EinsumDense(equation, shape)


LAYERS = {case.name: of_case(case) for case in CASES} | {
    "SimpleRNNCell": (lambda: layers.SimpleRNNCell(3), numbers(2, 4), step, 1),
    "LSTMCell": (lambda: layers.LSTMCell(3), numbers(2, 4), step, 1),
    "GRUCell": (lambda: layers.GRUCell(3), numbers(2, 4), step, 1),
    "ConvLSTMCell": (
        lambda: ConvLSTMCell(2, filters=3, kernel_size=2, padding="same"),
        numbers(2, 4, 5, 2),
        step,
        1,
    ),
    "experts": (einsum("aed,edf->aef", (3, 4)), numbers(2, 3, 5), call, 2),
    "heads to vectors": (einsum("abcd,cde->abe", (3, 4)), numbers(2, 3, 2, 5), call, 1),
    "vectors in front": (einsum("...x,yx->...y", (4,)), numbers(2, 5), call, 1),
    "grouped": (lambda: layers.Conv2D(4, 2, groups=2), numbers(2, 4, 4, 4), call, 1),
}
if hasattr(layers, "ReversibleEmbedding"):
    LAYERS["ReversibleEmbedding"] = (
        lambda: layers.ReversibleEmbedding(5, 4),
        numbers(2, 3, 4),
        reversed_,
        1,
    )


def test_every_layer_of_keras_with_an_adapter_is_here():
    tested = {type(make()) for make, *_ in LAYERS.values()}
    assert tested >= set(ADAPTERS)


def axes_of_units(layer, attribute, run, x, units):
    """The axes of a weight along which a part of it reaches some outputs and not others."""
    weight = getattr(layer, attribute)
    value = ops.convert_to_numpy(weight)
    before = ops.convert_to_numpy(run(layer, x))
    result = []
    for axis in range(value.ndim):
        changed = value.copy()
        np.moveaxis(changed, axis, 0)[0] += 0.5
        weight.assign(changed)
        moved = np.abs(ops.convert_to_numpy(run(layer, x)) - before) > 1e-6
        weight.assign(value)
        reached = moved.any(axis=tuple(range(moved.ndim - units)))
        assert reached.any()
        if not reached.all():
            result.append(axis)
    return result


@pytest.mark.long
@pytest.mark.parametrize("name", LAYERS)
def test_a_loud_output_unit_leaves_the_quantized_weights_of_the_others(name):
    make, x, run, units = LAYERS[name]
    layer = make()
    run(layer, x)
    for variable in layer.weights:
        variable.assign(numbers(*variable.shape))
    if name.startswith("Separable"):
        layer.pointwise_kernel.assign(np.eye(4).reshape(layer.pointwise_kernel.shape))
    weights = [w for w in adapter_of(type(layer)).weights if w.prefix != "bias"]
    # Some layers, such as a tied embedding, lack one.
    weights = [w for w in weights if hasattr(layer, w.attribute)]
    axes = {w: axes_of_units(layer, w.attribute, run, x, units) for w in weights}
    quantizer = "integer(bits=4, granularity='channel')"
    qf.quantize(layer, {f"{w.prefix}_quantizer": quantizer for w in weights})
    for weight, actual in axes.items():
        assert actual, f"{weight.attribute} has no output units"
        variable = getattr(layer, weight.attribute)
        first = np.ones(variable.shape, bool)
        for axis in actual:
            chosen = np.arange(variable.shape[axis]) == 0
            shape = [-1 if a == axis else 1 for a in range(first.ndim)]
            first &= chosen.reshape(shape)
        before = ops.convert_to_numpy(slot_of(layer, weight.prefix).quantized_value())
        variable.assign(np.where(first, 100 * variable.numpy(), variable.numpy()))
        after = ops.convert_to_numpy(slot_of(layer, weight.prefix).quantized_value())
        np.testing.assert_array_equal(after[~first], before[~first])
        assert (after[first] != before[first]).any()


def test_a_loud_token_leaves_the_others_their_precision():
    embedding = qf.layers.QuantEmbedding(
        6, 8, embeddings_quantizer="integer(bits=8, granularity='channel')"
    )
    embedding.build()
    table = numbers(6, 8)
    table[2] *= 1000
    embedding.embeddings.assign(table)
    actual = ops.convert_to_numpy(embedding(np.arange(6)))
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(actual, np.rint(table / step) * step, rtol=1e-5)


def test_experts_that_are_registered_by_both_axes_have_scales_of_their_own():
    class Experts(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(name="w", shape=(3, shape[-1], 4))

        def call(self, x):
            return ops.einsum("ad,edf->aef", x, self.w)

    qf.register_layer(Experts, kernel="w", channel_axis=(0, -1))
    layer = Experts()
    layer.build((None, 5))
    kernel = numbers(3, 5, 4)
    kernel[1] *= 1000
    layer.w.assign(kernel)
    qf.quantize(layer, {"kernel_quantizer": "integer(granularity='channel')"})
    step = np.abs(kernel).max(axis=1, keepdims=True) / 127
    expected = np.einsum("ad,edf->aef", np.ones((2, 5)), np.rint(kernel / step) * step)
    actual = ops.convert_to_numpy(layer(np.ones((2, 5), "float32")))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="new in later Keras")
def test_second_kernel_of_an_embedding_has_a_scale_for_each_token():
    embedding = layers.ReversibleEmbedding(6, 8, tie_weights=False)
    embedding.build()
    table, kernel = numbers(6, 8), numbers(8, 6)
    kernel[:, 2] *= 1000
    embedding.embeddings.assign(table)
    embedding.reverse_embeddings.assign(kernel)
    qf.quantize(embedding, {"weight_quantizer": "integer(bits=8, granularity='channel')"})
    x = numbers(3, 8)
    step = np.abs(kernel).max(axis=0) / 127
    actual = ops.convert_to_numpy(embedding(x, reverse=True))
    np.testing.assert_allclose(actual, x @ (np.rint(kernel / step) * step), rtol=1e-4)
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    actual = ops.convert_to_numpy(embedding(np.arange(6)))
    np.testing.assert_allclose(actual, np.rint(table / step) * step, rtol=1e-5)
