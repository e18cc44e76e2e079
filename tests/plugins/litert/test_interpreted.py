"""Layers in LiteRT files: what the interpreter computes, beside the graph's reference."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from litert_layers import LEVELS, WEIGHTS, quantized
from qframe.deployment.graph.fusing import fuse
from qframe.deployment.graph.reference import tensors_of
from qframe.deployment.lowering import ExportTarget, lower
from qframe.errors import ArgumentError, ExportError

pytest.importorskip("ai_edge_litert", reason="in the environment `tests`")
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
KERNELS = "xnnpack", "builtin"


def up(*arguments, cls=qf.layers.QuantConv2DTranspose, **options):
    return cls(*arguments, kernel_quantizer=WEIGHTS, **options)


def prelu(shared_axes=(1, 2)):
    return layers.PReLU(alpha_initializer="random_normal", shared_axes=shared_axes)


def norm(x):
    return layers.BatchNormalization()(x)


def dense(equation, shape, bias_axes, **options):
    return qf.layers.QuantEinsumDense(
        equation, shape, bias_axes=bias_axes, kernel_quantizer=WEIGHTS, **options
    )


def attention(x):
    q, k, v = (
        dense("abc,cde->abde", (None, 2, 4), "de", output_quantizer=LEVELS)(x)
        for _ in range(3)
    )
    scores = quantized(ops.einsum("abcd,aecd->acbe", q, k) * 0.3)
    shares = quantized(layers.Softmax()(scores), "dorefa(k_bit=8)")
    return ops.einsum("acbe,aecd->abcd", shares, v)


def of_one_quantizer(layer, count):
    """A merge of tensors whose numbers one quantizer rounds."""

    def function(x):
        quantizer = qf.quantizers.get(LEVELS)
        parts = [x, -x, 1.3 * x, 0.7 * x][:count]
        return layer([quantizer(part) for part in parts])

    return function


def of_quantizers(layer, count):
    """A merge of tensors with different ranges."""

    def function(x):
        parts = [x, layers.ReLU()(x), x * x][:count]
        return layer([x, *map(quantized, parts[1:])])

    return function


IMAGE, SEQUENCE, VECTOR = (5, 6, 4), (6, 4), (8,)
# Of each case: the shape of the input, and what is between two quantizers.
CASES = {
    "same": (IMAGE, up(3, 3, strides=2, padding="same")),
    "same, even": (IMAGE, up(3, 4, strides=2, padding="same")),
    "same, larger stride": (IMAGE, up(3, 2, strides=3, padding="same")),
    "valid": (IMAGE, up(3, 3, strides=2)),
    "valid, larger stride": (IMAGE, up(3, 2, strides=3)),
    "output padding": (IMAGE, up(3, 5, strides=3, padding="same", output_padding=1)),
    "two paddings": (IMAGE, up(3, (5, 2), strides=(2, 3), padding="same")),
    "stride 1": (IMAGE, up(3, 3, padding="same", activation="relu")),
    "relu": (IMAGE, up(3, 3, strides=2, activation="relu")),
    "batch normalization": (IMAGE, lambda x: norm(up(3, 3, strides=2)(x))),
    "sequence": (
        SEQUENCE,
        up(3, 3, cls=qf.layers.QuantConv1DTranspose, strides=2, padding="same"),
    ),
    "matrices": (SEQUENCE, lambda x: x @ ops.transpose(x, (0, 2, 1))),
    "scaled matrices": (SEQUENCE, lambda x: x @ ops.transpose(x, (0, 2, 1)) / 3.0),
    "matrices, relu": (
        SEQUENCE,
        lambda x: ops.relu(ops.einsum("abc,abd->acd", x, x)),
    ),
    "dot": (SEQUENCE, lambda x: layers.Dot(2)([x, x])),
    "attention": (SEQUENCE, attention),
    "einsum dense": (SEQUENCE, dense("abc,cd->abd", (None, 5), "d")),
    "heads": (SEQUENCE, dense("abc,cde->adbe", (2, None, 3), None)),
    "average of two": (IMAGE, of_one_quantizer(layers.Average(), 2)),
    "average of four": (SEQUENCE, of_one_quantizer(layers.Average(), 4)),
    "sum of three": (VECTOR, of_one_quantizer(layers.Add(), 3)),
    "average of grids": (IMAGE, of_quantizers(layers.Average(), 2)),
    "average of three grids": (VECTOR, of_quantizers(layers.Average(), 3)),
    "sum of three grids": (SEQUENCE, of_quantizers(layers.Add(), 3)),
    "maximum of three": (IMAGE, of_one_quantizer(layers.Maximum(), 3)),
    "slopes of an image": (IMAGE, prelu()),
    "slopes of a sequence": (SEQUENCE, prelu((1,))),
    "slopes of a vector": (VECTOR, prelu(None)),
    "affine of a vector": (VECTOR, norm),
    "affine of a sequence": (SEQUENCE, norm),
    "nearest": (IMAGE, layers.UpSampling2D((2, 3))),
    "nearest of a sequence": (SEQUENCE, layers.UpSampling1D(3)),
    "bilinear": (IMAGE, layers.UpSampling2D(2, interpolation="bilinear")),
    "bilinear, leaky": (
        IMAGE,
        lambda x: layers.LeakyReLU()(layers.UpSampling2D(2, interpolation="bilinear")(x)),
    ),
    "function of signs": (
        VECTOR,
        lambda x: layers.Activation("sigmoid")(qf.quantizers.get("ste_sign")(x)),
    ),
    "repeat": (VECTOR, layers.RepeatVector(3)),
    "crop of an image": (IMAGE, layers.Cropping2D(((1, 0), (2, 1)))),
    "crop of a sequence": (SEQUENCE, layers.Cropping1D((1, 2))),
    "slice": (IMAGE, lambda x: x[:, ::2, 1:, :3]),
    "permute": (IMAGE, layers.Permute((3, 1, 2))),
    "flatten": (IMAGE, layers.Flatten()),
    "padding of an image": (IMAGE, layers.ZeroPadding2D(((1, 0), (0, 2)))),
    "padding of a sequence": (SEQUENCE, layers.ZeroPadding1D((1, 2))),
    "largest of an image": (IMAGE, layers.GlobalMaxPooling2D()),
    "largest of a sequence": (SEQUENCE, layers.GlobalMaxPooling1D(keepdims=True)),
}
# A step in a factor of attention is more than one in a product. A slope is up to 1/254 off,
# which is more than a step for the lowest inputs.
MOST_STEPS = {"attention": 3, "bilinear, leaky": 2}
MOST_STEPS |= {case: 2 for case in CASES if case.startswith("slopes")}
# The runtime rounds a bilinear image to the grid of its input, and then to the next one.
LEAST_SHARES = {
    "attention": 0.75,
    "bilinear": 0.7,
    "bilinear, leaky": 0.6,
    "slopes of a sequence": 0.8,
}


def exported(case, path):
    """A calibrated model, its data, and its file."""
    shape, function = CASES[case] if isinstance(case, str) else case
    x = keras.Input(shape)
    model = keras.Model(x, quantized(function(quantized(x))))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "gamma" in weight.path or "moving_variance" in weight.path:
            weight.assign(rng.uniform(0.3, 1.5, weight.shape))
    data = rng.normal(size=(40, *shape)).astype("float32")
    qf.calibrate(model, data, verbose=0)
    qf.export(model, path, target="litert")
    return model, data


def steps_of(model, data, path, kernels):
    """How far the numbers of a file are from those of the graph, in steps."""
    graph = fuse(lower(model, ExportTarget("litert")))
    expected = tensors_of(graph, data)[graph.outputs[0]]
    (grid,) = {v.grid.scale for v in graph.values()[-2:] if v.grid is not None}
    found = qf.litert.load(path, kernels).predict(data)
    assert found.shape == expected.shape
    return np.rint((found - expected) / grid)


@pytest.mark.one_case_in(2)
@pytest.mark.parametrize("case", CASES)
def test_a_file_computes_what_the_graph_does(case, tmp_path):
    path = tmp_path / "m.tflite"
    model, data = exported(case, path)
    for kernels in KERNELS:
        steps = steps_of(model, data, path, kernels)
        assert np.abs(steps).max() <= MOST_STEPS.get(case, 1), kernels
        assert np.mean(steps == 0) > LEAST_SHARES.get(case, 0.9), kernels


REFUSED = {
    "a product of three": (
        lambda x: layers.Multiply()([x, x, x]),
        "takes 3 tensors, and the runtime two",
    ),
    "slopes of numbers": (prelu(None), r"shared_axes=\[1, 2\]"),
    "a negative product": (
        lambda x: ops.einsum("abcd,aecd->abe", x, x) * -1.0,
        "the runtime by positive numbers",
    ),
    "a loop": (
        lambda x: layers.LSTM(3, name="loop")(layers.Reshape((30, 4))(x)),
        r"computes float32 .*\('loop'\): write litert\(floats='keep'\)\. Nothing",
    ),
    "a loop of layers": (
        lambda x: layers.TimeDistributed(layers.Dense(3), name="loop")(x),
        r"the layer 'loop' \(TimeDistributed\): .* Give the whole sequence to Dense",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_operator_computes_is_refused_with_the_cure(case, tmp_path):
    function, reason = REFUSED[case]
    with pytest.raises(ExportError, match=reason):
        exported((IMAGE, function), tmp_path / "m.tflite")


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_file_of_one_batch_size_computes_the_same(kernels, tmp_path):
    """The shape of a transposed convolution is a constant then, which XNNPACK takes."""
    path = tmp_path / "m.tflite"
    model, data = exported("same", path)
    any_size = qf.litert.load(path, kernels).predict(data[:5])
    qf.export(model, path, target="litert(batch=5)")
    assert not steps_of(model, data[:5], path, "xnnpack").any()
    found = qf.litert.load(path, kernels).predict(data[:5])
    np.testing.assert_allclose(found, any_size, atol=np.ptp(found) / 100)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_batch_of_another_size_than_that_of_the_file(kernels, tmp_path):
    """It is cut, and its last part is filled up."""
    path, cut = tmp_path / "any.tflite", tmp_path / "cut.tflite"
    model, data = exported("average of grids", path)
    qf.export(model, cut, target="litert(batch=3)")
    whole, parts = qf.litert.load(path, kernels), qf.litert.load(cut, kernels)
    for size in (0, 1, 3, 7):
        np.testing.assert_array_equal(
            parts.predict(data[:size]), whole.predict(data[:size])
        )
        if size:
            expected, found = whole.edges(data[:size]), parts.edges(data[:size])
            assert found.keys() == expected.keys()
            for name, edge in found.items():
                np.testing.assert_array_equal(edge.values, expected[name].values)
    verified = qf.verify(model, cut, data[:7], edge_examples=5)
    assert verified.within_one_step == 1.0


def test_inputs_of_few_levels_are_clipped_and_signs_are_refused(tmp_path):
    """What runs a file rounds to all integers of eight bits."""
    path = tmp_path / "m.tflite"
    x = keras.Input((4,))
    y = qf.layers.QuantDense(3, kernel_quantizer=WEIGHTS)(quantized(x, "dorefa(k_bit=3)"))
    model = keras.Model(x, quantized(y))
    data = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    qf.calibrate(model, data, verbose=0)
    qf.export(model, path, target="litert")
    for kernels in KERNELS:
        assert np.abs(steps_of(model, 3 * data, path, kernels)).max() <= 1
    y = qf.layers.QuantDense(3, kernel_quantizer=WEIGHTS)(quantized(x, "ste_sign"))
    signs = keras.Model(x, quantized(y))
    qf.calibrate(signs, data, verbose=0)
    with pytest.raises(ExportError, match=r"to two levels, .* Write inputs='float'"):
        qf.export(signs, tmp_path / "signs.tflite", target="litert")
    qf.export(signs, path, target="litert(inputs='float')")
    assert not steps_of(signs, data, path, "xnnpack").any()


def test_biases_that_move_results_are_said_and_those_of_the_model_are_exact(tmp_path):
    path, found = tmp_path / "m.tflite", {}
    data = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
    for bias_quantizer in (None, "integer_bias"):
        x = keras.Input((6,))
        layer = qf.layers.QuantDense(
            4,
            input_quantizer="integer(bits=4, symmetric=False, gather='widest')",
            kernel_quantizer=WEIGHTS.replace("(", "(bits=4, "),
            bias_quantizer=bias_quantizer,
            name="dense",
        )
        model = keras.Model(x, quantized(layer(x)))
        layer.bias.assign([0.3, -0.2, 0.11, 0.7])
        qf.calibrate(model, data, verbose=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            qf.export(model, path, target="litert")
        found[bias_quantizer] = [str(warning.message) for warning in caught]
    assert re.search(r"results by up to 0\.\d+ steps: 'dense'\.", found[None][0])
    assert found["integer_bias"] == []
    assert qf.verify(model, path, data, verbose=0).equal == 1


def test_an_image_of_few_levels_is_resized_in_fine_steps(tmp_path):
    x = keras.Input(IMAGE)
    few = qf.quantizers.get("integer(bits=4, symmetric=False, gather='widest')")(x)
    resized = layers.UpSampling2D(2, interpolation="bilinear")(few)
    model = keras.Model(x, quantized(resized))
    data = np.random.default_rng(0).normal(size=(20, *IMAGE)).astype("float32")
    qf.calibrate(model, data, verbose=0)
    qf.export(model, tmp_path / "m.tflite", target="litert")
    assert not np.abs(steps_of(model, data, tmp_path / "m.tflite", "xnnpack")).max() > 1


def test_a_model_of_16_bits_is_refused_without_the_option(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(3)(x))
    qf.quantize(model, "int16x8")
    qf.calibrate(model, np.ones((4, 4), "float32"), verbose=0)
    for target in ("litert", "litert(floats='keep')"):
        with pytest.raises(ExportError, match=r"write litert\(activations=16\)"):
            qf.export(model, tmp_path / "m.tflite", target=target)
    with pytest.raises(ArgumentError, match="8 or 16"):
        qf.export(model, tmp_path / "m.tflite", target="litert(activations=8.0)")


def test_weights_of_four_bits_with_a_large_bias_are_stored_in_eight(tmp_path):
    """XNNPACK would multiply the bias by 16, beyond 32 bits."""
    x = keras.Input((4,))
    layer = layers.Dense(3)
    model = keras.Model(x, layer(x))
    kernel = np.array(layer.kernel)
    layer.kernel.assign(kernel * [1e-8, 1, 1])
    layer.bias.assign([1.0, -0.5, 0.2])
    data = np.random.default_rng(0).normal(size=(33, 4)).astype("float32")
    qf.quantize(model, "w4a8")
    qf.calibrate(model, data, verbose=0)
    path = tmp_path / "m.tflite"
    qf.export(model, path, target="litert(weights='int4')")
    assert qf.verify(model, path, data, verbose=0).within_one_step == 1
