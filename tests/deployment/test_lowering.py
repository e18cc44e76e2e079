"""From Keras layers to a graph: what it computes, its grids, and refused layers."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.checks import require_grids
from qframe.deployment.graph.fusing import fuse
from qframe.deployment.graph.reference import run, tensors_of
from qframe.deployment.graph.rounding import rounding_of
from qframe.deployment.lowering import ExportTarget, activations, lower
from qframe.deployment.lowering.activations import quantize_of
from qframe.deployment.lowering.layers import lowerings
from qframe.errors import ArgumentError, ExportError, QFrameError
from qframe.keras_internals import CustomScaleLayer, LayerScale, StochasticDepth

pytestmark = [
    pytest.mark.ends,
    pytest.mark.two_backends,  # a graph is made of weights and configs
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
TARGET = ExportTarget("mine")


def computed(model, *inputs):
    """What the graph of a model returns, by the reference."""
    graph = lower(model, TARGET)
    tensors = tensors_of(graph, *inputs)
    return [tensors[i] for i in graph.outputs]


LAYERS = {
    layers.Activation: lambda: layers.Activation("tanh"),
    layers.ActivityRegularization: lambda: layers.ActivityRegularization(0.1),
    layers.AlphaDropout: lambda: layers.AlphaDropout(0.5),
    layers.AveragePooling1D: lambda: layers.AveragePooling1D(3, 2, padding="same"),
    layers.AveragePooling2D: lambda: layers.AveragePooling2D(3, strides=1, padding="same"),
    layers.BatchNormalization: lambda: layers.BatchNormalization(epsilon=0.1),
    layers.Conv1D: lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2),
    layers.Conv2D: lambda: layers.Conv2D(4, 3, strides=2, padding="same", groups=2),
    layers.Conv1DTranspose: lambda: layers.Conv1DTranspose(3, 3, strides=2, padding="same"),
    layers.Conv2DTranspose: lambda: layers.Conv2DTranspose(4, (3, 2), strides=(2, 3)),
    layers.Cropping1D: lambda: layers.Cropping1D((1, 2)),
    layers.Cropping2D: lambda: layers.Cropping2D(((1, 0), (2, 3))),
    layers.Dense: lambda: layers.Dense(3, activation="relu"),
    layers.DepthwiseConv1D: lambda: layers.DepthwiseConv1D(3, padding="same"),
    layers.DepthwiseConv2D: lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    layers.Dropout: lambda: layers.Dropout(0.5),
    layers.ELU: lambda: layers.ELU(alpha=0.7),
    layers.Flatten: layers.Flatten,
    layers.GaussianDropout: lambda: layers.GaussianDropout(0.5),
    layers.GaussianNoise: lambda: layers.GaussianNoise(0.5),
    layers.GlobalAveragePooling1D: layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D: lambda: layers.GlobalAveragePooling2D(keepdims=True),
    layers.GlobalAveragePooling3D: layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D: lambda: layers.GlobalMaxPooling1D(keepdims=True),
    layers.GlobalMaxPooling2D: layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D: layers.GlobalMaxPooling3D,
    layers.GroupNormalization: lambda: layers.GroupNormalization(2, epsilon=0.1),
    layers.Identity: layers.Identity,
    layers.LayerNormalization: lambda: layers.LayerNormalization(axis=(-2, -1)),
    LayerScale: lambda: LayerScale(0.3, 4),
    layers.LeakyReLU: lambda: layers.LeakyReLU(negative_slope=0.3),
    layers.MaxPooling1D: lambda: layers.MaxPooling1D(3, strides=2, padding="same"),
    layers.MaxPooling2D: lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
    layers.Normalization: lambda: layers.Normalization(
        mean=[1000, 0, -5, 1], variance=[0.01, 1, 4, 2]
    ),
    layers.Permute: lambda: layers.Permute((3, 1, 2)),
    layers.PReLU: lambda: layers.PReLU(alpha_initializer="random_normal"),
    layers.ReLU: lambda: layers.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2),
    layers.Rescaling: lambda: layers.Rescaling(2.0, offset=-1.0),
    layers.RepeatVector: lambda: layers.RepeatVector(3),
    layers.Reshape: lambda: layers.Reshape((-1, 3)),
    layers.SeparableConv1D: lambda: layers.SeparableConv1D(5, 3, strides=2),
    layers.SeparableConv2D: lambda: layers.SeparableConv2D(5, 3, padding="same"),
    layers.Softmax: layers.Softmax,
    layers.SpatialDropout1D: lambda: layers.SpatialDropout1D(0.5),
    layers.SpatialDropout2D: lambda: layers.SpatialDropout2D(0.5),
    layers.SpatialDropout3D: lambda: layers.SpatialDropout3D(0.5),
    StochasticDepth: lambda: StochasticDepth(0.5),
    layers.UpSampling1D: lambda: layers.UpSampling1D(3),
    layers.UpSampling2D: lambda: layers.UpSampling2D((2, 3)),
    layers.ZeroPadding1D: lambda: layers.ZeroPadding1D((1, 2)),
    layers.ZeroPadding2D: lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
}
if hasattr(layers, "RMSNormalization"):  # newer than the oldest Keras
    LAYERS[layers.RMSNormalization] = lambda: layers.RMSNormalization(axis=-1)
SHAPES = {"1D": (7, 4), "2D": (6, 7, 4), "3D": (3, 4, 5, 2), "or": (4,)}
MERGES = (
    *(layers.Add, layers.Average, layers.Concatenate, layers.Maximum, layers.Minimum),
    *(layers.Multiply, layers.Subtract),
)
BEFORE = {
    "floats": lambda x: x,
    "signs": lambda x: qf.quantizers.SteSign()(x),
    "levels": lambda x: qf.quantizers.get("dorefa(k_bit=3)")(x),
}


def test_every_lowering_is_compared():
    special = {layers.Embedding, CustomScaleLayer, layers.Dot, layers.Attention}
    special |= {layers.EinsumDense, layers.MultiHeadAttention}  # in test_contracting
    # In test_recurrent.
    special |= {layers.Bidirectional, layers.GRU, layers.LSTM, layers.SimpleRNN}
    assert {*LAYERS, *MERGES, *special} == set(lowerings())


def assert_as_in_keras(model, *inputs):
    expected = model([*inputs] if len(inputs) > 1 else inputs[0], training=False)
    (found,) = computed(model, *inputs)
    expected = keras.ops.convert_to_numpy(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_a_layer_computes_what_keras_does(cls, before):
    shape = SHAPES.get(cls.__name__.removesuffix("Transpose")[-2:], SHAPES["2D"])
    x = keras.Input(shape)
    model = keras.Model(x, LAYERS[cls]()(BEFORE[before](x)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.2, 2, weight.shape))
    assert_as_in_keras(model, rng.normal(size=(3, *shape)).astype("float32"))


def test_a_scaled_residual_is_added():
    x, y = keras.Input((3, 4)), keras.Input((3, 4))
    model = keras.Model([x, y], CustomScaleLayer(0.17)([x, y]))
    rng = np.random.default_rng(0)
    assert_as_in_keras(model, *rng.normal(size=(2, 5, 3, 4)).astype("float32"))


# The size of a kernel, the stride, the padding, the output padding, and the dilation.
TRANSPOSED = [
    *(
        (size, stride, padding, None, 1)
        for size in (1, 2, 3, 4, 5)
        for stride in (1, 2, 3)
        for padding in ("same", "valid")
    ),
    *(
        # Older versions of Keras take no output padding of 0.
        pytest.param((size, stride, padding, added, 1), marks=pytest.mark.once_per_backend)
        for padding in ("same", "valid")
        for size, stride, added in ((3, 2, 0), (3, 2, 1), (5, 3, 0), (5, 3, 2))
    ),
    *((3, 1, padding, None, 2) for padding in ("same", "valid")),
]


@pytest.mark.parametrize("quantizer", [None, "integer(bits=4, granularity='channel')"])
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_a_transposed_convolution_pads_as_keras_does(case, quantizer):
    size, stride, padding, added, dilation = case
    if dilation > 1 and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow does not dilate transposed convolutions on the CPU")
    layer = qf.layers.QuantConv2DTranspose(
        3,
        (size, 3),
        strides=(stride, 1),
        padding=padding,
        output_padding=None if added is None else (added, 0),
        dilation_rate=(dilation, 1),
        kernel_quantizer=quantizer,
        input_quantizer=quantizer and "dorefa(k_bit=3)",
    )
    model = chain(layer, shape=(4, 5, 2))
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 2)).astype("float32")
    assert_as_in_keras(model, x)


def test_images_grow_between_their_pixels():
    model = chain(layers.UpSampling2D((2, 3), interpolation="bilinear"), shape=(4, 5, 2))
    assert_as_in_keras(model, np.random.default_rng(0).normal(size=(2, 4, 5, 2)))


@pytest.mark.parametrize("quantizer", [None, "tensor", "channel"])
def test_an_embedding_looks_up_rows(quantizer):
    """Integers too, whose scale may depend on the row."""
    word = quantizer and f"integer(bits=4, granularity={quantizer!r})"
    embedding = qf.layers.QuantEmbedding(9, 5, embeddings_quantizer=word)
    model = keras.Sequential([keras.Input((6,), dtype="int32"), embedding])
    indices = np.random.default_rng(0).integers(0, 9, (4, 6))
    assert_as_in_keras(model, indices)
    with pytest.raises(ArgumentError, match=r"indices from 0 to 8, found .* to 9"):
        computed(model, indices + (indices == 8))


def test_layers_of_a_sequence_fuse_as_those_of_an_image():
    """What makes an image of one row out of a sequence stays at the ends."""
    quantizers = {
        "input_quantizer": "integer(symmetric=False, gather='widest')",
        "kernel_quantizer": "integer(granularity='channel', narrow_range=True)",
    }
    model = chain(
        qf.layers.QuantConv1D(4, 3, padding="same", **quantizers),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling1D(),
        qf.layers.QuantConv1D(
            3, 2, output_quantizer=quantizers["input_quantizer"], **quantizers
        ),
        shape=(9, 2),
    )
    x = np.random.default_rng(0).normal(size=(20, 9, 2)).astype("float32")
    qf.calibrate(model, x, verbose=0)
    graph = fuse(lower(model, TARGET))
    assert [node.operation.name for node in graph.nodes] == [
        *("quantize", "reshape", "fused", "max_pool", "fused", "reshape", "dequantize"),
    ]
    require_grids(graph, "mine")


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("cls", MERGES, ids=lambda cls: cls.__name__)
def test_a_merge_computes_what_keras_does(cls, before):
    x, y = keras.Input((3, 4)), keras.Input((3, 4))
    model = keras.Model([x, y], cls()([BEFORE[before](x), BEFORE[before](y)]))
    rng = np.random.default_rng(0)
    assert_as_in_keras(model, *rng.normal(size=(2, 5, 3, 4)).astype("float32"))


@pytest.mark.parametrize("kernel", ["ste_sign", "integer(bits=4, granularity='channel')"])
@pytest.mark.parametrize("inputs", [None, "ste_sign", "dorefa(k_bit=2)"])
def test_scales_biases_and_batch_norm_are_apart(kernel, inputs):
    layer = qf.layers.QuantDense(3, input_quantizer=inputs, kernel_quantizer=kernel)
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((5,)), layer, norm])
    names = [node.operation.name for node in lower(model, TARGET).nodes]
    before, after = (["quantize"], ["dequantize"]) if inputs else ([], [])
    assert names == [*before, "dense", *after, "affine", "affine"]
    graph = lower(model, TARGET)
    product = graph.nodes[len(before)].operation
    expected = next(iter(qf.integers(layer).values()))
    np.testing.assert_array_equal(product.kernel.integers(), expected.values.T)
    np.testing.assert_array_equal(product.kernel.scale, expected.scale.squeeze())
    grid = graph.values()[len(before) + 1].grid
    if inputs:
        scale = np.float64(quantize_of(layer.input_quantizer).scale) * expected.scale
        np.testing.assert_array_equal(grid.scale, scale.squeeze())
    else:
        assert grid is None
    rng = np.random.default_rng(0)
    assert_as_in_keras(model, rng.normal(size=(4, 5)).astype("float32"))


# The rule that each is proven to round by.
ROUNDINGS = {
    "integer(gather='widest')": "half_even",
    "integer(symmetric=False, gather='widest')": "half_even",
    "integer(bits=4, symmetric=False, gather='widest')": "half_even",
    "integer(bits=4, gather='widest', rounding='half_up')": "half_up",
    "integer(bits=4, gather='widest', rounding='ceil')": None,
    "integer(bits=12, gather='widest')": "half_even",
    "dorefa(k_bit=2)": "half_even",
    # It multiplies by 255, and 1 / float32(1 / 255) is another number.
    "dorefa(k_bit=8)": "half_even",
    "quantized_bits(bits=8, alpha=1.0)": "half_even",
    "quantized_relu(4, 2)": "half_even",
    "ste_sign": None,
    "ste_heaviside": None,
}


@pytest.mark.parametrize("identifier", ROUNDINGS)
def test_quantizers_have_a_grid_and_a_rounding(identifier):
    quantizer = qf.quantizers.get(identifier)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype("float32") + np.float32(0.3)
    if quantizer.traits.ranged:
        quantizer(x, training=True)
    operation = quantize_of(quantizer)
    grid, expected = operation.grid, quantizer.integers(x)
    integers = run(operation, x)
    np.testing.assert_array_equal(integers + grid.zero_point, expected.values)
    assert (grid.scale, grid.zero_point) == (expected.scale, expected.zero_point)
    assert grid.low <= expected.values.min() <= expected.values.max() <= grid.high
    assert grid.rounding == ROUNDINGS[identifier]
    if grid.rounding:
        span = grid.span
        found = rounding_of(operation.thresholds, grid.scale, span.low, span.step)
        np.testing.assert_array_equal(found.levels(x, span.low, span.high), integers)


@pytest.mark.parametrize("power", [20, 90, 95, 100, 120])
def test_quantize_of_any_range_is_the_quantizer(power):
    """Also of one beyond 2^100, whose levels a smaller number does not reach."""
    quantizer = qf.quantizers.get("integer(gather='widest')")
    drawn = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    quantizer(drawn * np.float32(2.0**power), training=True)
    operation = quantize_of(quantizer)
    assert (operation.grid.low, operation.grid.high) == (-128, 127)
    x = (np.linspace(-4, 4, 501, dtype="float32") * np.float32(2.0**power))[:, None]
    expected = quantizer.integers(x)
    np.testing.assert_array_equal(run(operation, x), expected.values)
    assert expected.values.min() == -128


def test_quantize_of_a_quantizer_that_overflows_is_refused(monkeypatch):
    quantizer = qf.quantizers.get("dorefa(k_bit=2)")
    integers = activations._integers

    def overflowing(quantizer, x):
        values, *grid = integers(quantizer, x)
        return np.where(x > 1e38, -1, values), *grid

    monkeypatch.setattr(activations, "_integers", overflowing)
    layer = qf.layers.QuantDense(2, input_quantizer=quantizer, name="wide")
    with pytest.raises(
        ExportError, match=r"the layer 'wide'.*overflows.* 0 to 3 and then 0 to -1"
    ):
        lower(chain(layer), TARGET)


def test_integers_of_16_bits_are_lowered_where_sums_may_be_wide():
    layer = qf.layers.QuantDense(
        2, kernel_quantizer="integer", input_quantizer="integer(bits=16, gather='widest')"
    )
    model = keras.Sequential([keras.Input((600,)), layer])
    x = np.random.default_rng(0).normal(size=(8, 600)).astype("float32")
    qf.calibrate(model, x, verbose=0)
    with pytest.raises(ExportError, match="within 32 bits"):
        lower(model, TARGET)
    graph = lower(model, ExportTarget("wide", sum_bits=64))
    found = tensors_of(graph, x)[graph.outputs[0]]
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-4, atol=1e-4)
    with pytest.raises(ExportError, match="more than 256 levels"):
        lower(model, ExportTarget("small", levels=2**8, sum_bits=64))


def chain(*parts, shape=(6, 6, 2)):
    return keras.Sequential([keras.Input(shape), *parts])


def test_all_refused_layers_are_in_one_error():
    model = chain(
        layers.Conv2D(2, 3, name="first"),
        layers.UnitNormalization(name="norm"),
        qf.layers.QuantConv2D(2, 3, input_quantizer="magnitude_aware_sign", name="own"),
        layers.RandomContrast(0.1, name="up"),
        layers.UnitNormalization(name="again"),
        layers.Dense(3, activation=lambda x: x * x, name="square"),
    )
    with pytest.raises(ExportError) as caught:
        lower(model, TARGET)
    first, *lines, last = str(caught.value).split("\n")
    assert first == "the target 'mine' cannot take 5 layers:"
    assert last == "Nothing was written."
    assert [line.partition(": ")[0] for line in lines] == [
        "- the layer 'norm' (UnitNormalization), the layer 'up' (RandomContrast), "
        "the layer 'again' (UnitNormalization)",
        "- the layer 'own' (Conv2D)",
        "- the layer 'square' (Dense)",
    ]
    assert "Replace it" in lines[0]
    assert "one scale for the whole tensor" in lines[1]


def test_refused_operations_are_counted_as_such():
    x = keras.Input((4, 1))
    model = keras.Model(x, keras.ops.sort(keras.ops.flip(x)))
    with pytest.raises(ExportError, match="cannot take 2 operations:"):
        lower(model, TARGET)
    model = keras.Model(x, keras.ops.sort(layers.Masking()(x)))
    with pytest.raises(ExportError, match="cannot take 2 layers and operations:"):
        lower(model, TARGET)


def test_an_operation_that_returns_several_tensors_is_refused():
    x = keras.Input((6,))
    first, second = keras.ops.split(x, 2, axis=-1)
    with pytest.raises(ExportError, match=r"returns 2 tensors.* Write slices"):
        lower(keras.Model(x, layers.Add()([first, second])), TARGET)


def test_an_input_with_too_many_elements_is_named_with_the_target():
    x = keras.Input((2**13 + 1, 2**13), name="huge")
    error = r"target 'mine' cannot take the input 'huge': .*67108864 elements.* smaller"
    with pytest.raises(ExportError, match=error):
        lower(keras.Model(x, layers.ReLU()(x)), TARGET)


def test_a_refused_layer_in_a_model_that_is_called_twice_is_named_once():
    inner = chain(layers.UnitNormalization(name="norm"), shape=(4,))
    inner.name = "inner"
    x = keras.Input((4,))
    model = keras.Model(x, layers.Add()([inner(x), inner(x)]))
    with pytest.raises(ExportError, match=r"^the target 'mine' cannot take the layer") as e:
        lower(model, TARGET)
    assert str(e.value).count("norm") == 1


def test_a_refused_layer_of_unknown_shape_ends_the_search():
    class Ragged(layers.Layer):
        def call(self, x):
            return x

        def compute_output_spec(self, x):
            return keras.KerasTensor((None, None), "float32")

    model = chain(Ragged(name="ragged"), shape=(4,))
    with pytest.raises(ExportError, match="the layer 'ragged'"):
        lower(model, TARGET)


@pytest.mark.parametrize("layer", [layers.UpSampling2D(8192), layers.ZeroPadding2D(8192)])
def test_a_refused_layer_of_a_large_shape_is_named_and_ends_the_search(layer):
    with pytest.raises(ExportError, match=f"the layer '{layer.name}'"):
        lower(chain(layer), TARGET)


def test_the_cause_is_the_first_refusal():
    model = chain(layers.Masking(), layers.Dense(2, dtype="mixed_float16"))
    with pytest.raises(ExportError, match="cannot take") as caught:
        lower(model, TARGET)
    assert isinstance(caught.value.__cause__, QFrameError)
    assert "hides steps" in str(caught.value.__cause__)


def test_equal_quantizers_are_one_object():
    x = keras.Input((4,))
    signs = [qf.quantizers.SteSign()(x) for _ in range(2)]
    nodes = lower(keras.Model(x, layers.Add()(signs)), TARGET).nodes
    quantizers = [n.operation for n in nodes if isinstance(n.operation, op.Quantize)]
    assert len(quantizers) == 2
    assert quantizers[0] is quantizers[1]
