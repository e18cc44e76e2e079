"""MACs of each kind of layer, against loops and numbers written by hand."""

import itertools

import keras
import pytest
from keras import layers

import qframe as qf

SIGN = "swish_sign"  # without a clip, so nobody asks for a constraint


def macs_of(layer, *shapes, dtype="float32"):
    """The profile of a model of this layer: its MACs by precision."""
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    model = keras.Model(inputs, layer(*inputs))
    result = qf.models.profile(model).layers[-1]
    return {mac.precision: mac.count for mac in result.macs}


def pairs(*ranges):
    """The number of runs of the innermost statement of nested loops."""
    return sum(1 for _ in itertools.product(*(range(n) for n in ranges)))


# A layer, its input shape, and the loops around its one multiplication: output pixels (or
# input pixels, where it scatters), taps, channels in, channels out.
LOOPS = {
    "dense": (lambda: layers.Dense(3), (5,), (5, 3)),
    "dense on a sequence": (lambda: layers.Dense(3), (4, 5), (4, 5, 3)),
    "dense on images": (lambda: layers.Dense(3), (2, 4, 5), (2, 4, 5, 3)),
    "conv1d": (lambda: layers.Conv1D(3, 2), (6, 5), (5, 2, 5, 3)),
    "causal": (lambda: layers.Conv1D(3, 2, padding="causal"), (6, 5), (6, 2, 5, 3)),
    "conv2d": (lambda: layers.Conv2D(3, 2), (5, 6, 4), (4, 5, 2, 2, 4, 3)),
    "same": (
        lambda: layers.Conv2D(3, (2, 3), padding="same"),
        (5, 6, 4),
        (5, 6, 2, 3, 4, 3),
    ),
    "strides": (
        lambda: layers.Conv2D(3, 2, strides=2, padding="same"),
        (5, 6, 4),
        (3, 3, 2, 2, 4, 3),
    ),
    "dilation": (
        lambda: layers.Conv2D(3, 2, dilation_rate=2),
        (5, 6, 4),
        (3, 4, 2, 2, 4, 3),
    ),
    "groups": (lambda: layers.Conv2D(6, 2, groups=2), (5, 6, 4), (4, 5, 2, 2, 2, 6)),
    "channels first": (
        lambda: layers.Conv2D(3, 2, data_format="channels_first"),
        (4, 5, 6),
        (4, 5, 2, 2, 4, 3),
    ),
    "conv3d": (lambda: layers.Conv3D(2, 2), (3, 4, 5, 2), (2, 3, 4, 2, 2, 2, 2, 2)),
    "depthwise1d": (
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=3),
        (6, 4),
        (5, 2, 4, 3),
    ),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(2), (5, 6, 4), (4, 5, 2, 2, 4)),
    "transposed1d": (
        lambda: layers.Conv1DTranspose(3, 2, strides=2),
        (6, 5),
        (6, 2, 5, 3),
    ),
    "transposed2d": (
        lambda: layers.Conv2DTranspose(3, 2, strides=2),
        (5, 6, 4),
        (5, 6, 2, 2, 4, 3),
    ),
    "transposed2d channels first": (
        lambda: layers.Conv2DTranspose(3, 2, strides=2, data_format="channels_first"),
        (4, 5, 6),
        (5, 6, 2, 2, 4, 3),
    ),
    "transposed3d": (
        lambda: layers.Conv3DTranspose(2, 2, strides=2),
        (2, 3, 2, 2),
        (2, 3, 2, 2, 2, 2, 2, 2),
    ),
    "einsum": (
        lambda: layers.EinsumDense("abc,cde->abde", (7, 2, 3)),
        (7, 5),
        (7, 5, 2, 3),
    ),
    "einsum with an ellipsis": (
        lambda: layers.EinsumDense("...x,xy->...y", 3),
        (2, 7, 5),
        (2, 7, 5, 3),
    ),
    "einsum that mixes positions": (
        lambda: layers.EinsumDense("abc,bd->adc", (3, 5)),
        (4, 5),
        (4, 5, 3),
    ),
    "recurrent": (lambda: layers.SimpleRNN(3), (6, 5), (6, 5 + 3, 3)),
    "gru": (lambda: layers.GRU(3), (6, 5), (6, 5 + 3, 3, 3)),
    "lstm": (lambda: layers.LSTM(3, return_sequences=True), (6, 5), (6, 5 + 3, 3, 4)),
    "cell": (lambda: layers.RNN(layers.GRUCell(3)), (6, 5), (6, 5 + 3, 3, 3)),
    "unrolled backwards": (
        lambda: layers.LSTM(3, unroll=True, go_backwards=True),
        (6, 5),
        (6, 5 + 3, 3, 4),
    ),
    "convolutional lstm": (
        lambda: layers.ConvLSTM2D(3, 2, return_sequences=True),
        (6, 5, 4, 2),
        (6, 4, 3, 2, 2, 2 + 3, 3, 4),
    ),
    "convolutional lstm, last": (
        lambda: layers.ConvLSTM1D(3, 2, padding="same"),
        (6, 5, 2),
        (6, 5, 2, 2 + 3, 3, 4),
    ),
}


@pytest.mark.parametrize("case", LOOPS)
def test_one_product(case):
    make, shape, loops = LOOPS[case]
    assert macs_of(make(), shape) == {32: pairs(*loops)}


def test_stacked_cells():
    cells = [layers.SimpleRNNCell(3), layers.SimpleRNNCell(4)]
    assert macs_of(layers.RNN(cells), (6, 5)) == {32: 6 * ((5 + 3) * 3 + (3 + 4) * 4)}


def test_separable():
    # Depthwise 2x2 on 4 channels, then 4 to 3 channels, for each of 4x5 pixels.
    layer = qf.layers.QuantSeparableConv2D(
        3,
        2,
        input_quantizer=SIGN,
        depthwise_quantizer=SIGN,
        pointwise_quantizer=SIGN,
    )
    # The pointwise part gets sums of signs, which have more than one bit.
    assert macs_of(layer, (5, 6, 4)) == {1: 4 * 5 * 2 * 2 * 4, 32: 4 * 5 * 4 * 3}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: qf.layers.QuantConv2D(3, 2, input_quantizer=SIGN), (5, 6, 4)),
        (lambda: qf.layers.QuantConv2D(3, 2, kernel_quantizer=SIGN), (5, 6, 4)),
    ],
)
def test_precision_is_that_of_the_wider_factor(layer, shape):
    assert list(macs_of(layer(), shape)) == [32]


def test_bias_is_no_mac():
    with_bias = macs_of(layers.Dense(3, name="biased"), (5,))
    assert with_bias == macs_of(layers.Dense(3, use_bias=False, name="bias"), (5,))


def test_kernel_is_counted_in_a_layer_named_bias():
    assert macs_of(layers.Conv2D(3, 2, name="bias_net"), (5, 6, 4)) == {32: 20 * 48}


NO_MACS = [
    (lambda: layers.Flatten(), (4, 4, 2)),
    (lambda: layers.BatchNormalization(), (4,)),
    (lambda: layers.LayerNormalization(), (4,)),
    (lambda: layers.MaxPooling2D(), (4, 4, 2)),
    (lambda: layers.AveragePooling2D(2), (4, 4, 2)),
    (lambda: layers.GlobalAveragePooling2D(), (4, 4, 2)),
    (lambda: layers.Activation("relu"), (4,)),
    (lambda: layers.PReLU(), (4,)),
    (lambda: layers.Dropout(0.5), (4,)),
    (lambda: layers.Reshape((2, 2)), (4,)),
    (lambda: layers.ZeroPadding2D(), (4, 4, 2)),
    (lambda: layers.UpSampling2D(), (4, 4, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), NO_MACS)
def test_no_macs(layer, shape):
    assert macs_of(layer(), shape) == {}


def test_embedding_looks_up():
    assert macs_of(layers.Embedding(9, 3), (4,), dtype="int32") == {}


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="new in later Keras")
def test_reversible_embedding_multiplies_on_the_way_back():
    embedding = layers.ReversibleEmbedding(9, 3)
    tokens = keras.Input((4,), dtype="int32")
    model = keras.Model(tokens, embedding(embedding(tokens), reverse=True))
    profile = qf.models.profile(model)
    assert profile.mac_count() == 4 * 3 * 9
    assert profile.parameter_count() == 27


def attention_by_hand(queries, keys, channels, heads, size, value_size, key_heads=None):
    """Projections, scores, mixture and the output projection."""
    key_heads = heads if key_heads is None else key_heads
    projections = channels * (
        queries * heads * size + keys * key_heads * (size + value_size)
    )
    products = heads * queries * keys * (size + value_size)
    return projections + products + queries * heads * value_size * channels


def test_self_attention():
    model_input = keras.Input((5, 4))
    output = layers.MultiHeadAttention(2, 3)(model_input, model_input)
    profile = qf.models.profile(keras.Model(model_input, output))
    assert len(profile.layers) == 2  # one row, and that of the input
    assert profile.mac_count() == attention_by_hand(5, 5, 4, 2, 3, 3)


def test_cross_attention():
    layer = layers.MultiHeadAttention(2, 3, value_dim=6)
    assert macs_of(layer, (5, 4), (7, 4)) == {32: attention_by_hand(5, 7, 4, 2, 3, 6)}


def test_attention_along_one_axis():
    # Each of 3 rows attends among its 5 columns: as a sequence of 5, three times.
    layer = layers.MultiHeadAttention(2, 3, attention_axes=(2,))
    by_hand = 3 * attention_by_hand(5, 5, 4, 2, 3, 3)
    assert macs_of(layer, (3, 5, 4), (3, 5, 4)) == {32: by_hand}


def test_grouped_query_attention():
    layer = layers.GroupQueryAttention(3, 4, 2)
    by_hand = attention_by_hand(5, 7, 4, 4, 3, 3, key_heads=2)
    assert macs_of(layer, (5, 4), (7, 4)) == {32: by_hand}


def test_attention_without_projections():
    query, value = keras.Input((5, 4)), keras.Input((7, 4))
    model = keras.Model([query, value], layers.Attention()([query, value]))
    assert qf.models.profile(model).mac_count() == 5 * 7 * (4 + 4)


def test_dot():
    left, right = keras.Input((5, 4)), keras.Input((7, 4))
    model = keras.Model([left, right], layers.Dot(axes=2)([left, right]))
    assert qf.models.profile(model).mac_count() == 5 * 7 * 4


def test_matmul_in_a_functional_model():
    left, right = keras.Input((5, 4)), keras.Input((4, 7))
    profile = qf.models.profile(keras.Model([left, right], left @ right))
    assert profile.layers[-1].kind == "Matmul"
    assert profile.mac_count() == 5 * 7 * 4


def test_other_operations_that_multiply_are_not_known():
    left, right = keras.Input((5, 4)), keras.Input((4, 7))
    product = keras.ops.einsum("abc,acd->abd", left, right)
    assert qf.models.profile(keras.Model([left, right], product)).mac_count() is None


UNKNOWN = {
    "pixels": (lambda: layers.Conv2D(3, 2), (None, 6, 4)),
    "sequence": (lambda: layers.Dense(3), (None, 5)),
    "time": (lambda: layers.LSTM(3), (None, 5)),
    "both": (lambda: layers.Conv1DTranspose(3, 2), (None, 5)),
    "distributed": (lambda: layers.TimeDistributed(layers.Dense(3)), (None, 5)),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_dimension(case):
    make, shape = UNKNOWN[case]
    assert macs_of(make(), shape) == {32: None}


def test_unknown_dimension_that_does_not_matter():
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    assert qf.models.profile(model).mac_count() == 6


def test_batch_is_not_counted():
    model = keras.Sequential([keras.Input(batch_shape=(8, 5)), layers.Dense(3)])
    assert qf.models.profile(model).mac_count() == 15


def test_total_with_an_unknown_term():
    model = keras.Sequential(
        [keras.Input((None, 5)), layers.Dense(3), layers.GlobalMaxPooling1D()]
    )
    model.add(layers.Dense(2))
    profile = qf.models.profile(model)
    assert profile.mac_count() is profile.mac_count(32) is None
    assert [layer.mac_count() for layer in profile.layers] == [None, 0, 6]
    assert profile.mac_tally().known == 6


@keras.saving.register_keras_serializable("qframe_tests")
class Doubling(layers.Dense):
    """A layer of Keras with an overridden call."""

    def call(self, inputs):
        return 2 * super().call(inputs)


class Scale(layers.Layer):
    """A weight that no adapter describes."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(1,), name="scale")

    def call(self, inputs):
        return self.scale * inputs


class Negative(layers.Layer):
    def call(self, inputs):
        return -inputs


def test_classes_that_are_not_known():
    assert macs_of(Doubling(3), (5,)) == {None: None}
    assert macs_of(Scale(), (5,)) == {None: None}
    assert macs_of(Negative(), (5,)) == {}


class Mine(layers.Layer):
    """A dense layer that somebody wrote."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], 3), name="w")
        self.shift = self.add_weight(shape=(3,), name="my_kernel")

    def call(self, inputs):
        return inputs @ self.w + self.shift


def test_class_with_an_adapter(monkeypatch):
    from qframe.layers.adapters import ADAPTERS, Adapter, Weight

    adapter = Adapter((Weight("w", "kernel"), Weight("shift", "bias", None)))
    monkeypatch.setitem(ADAPTERS, Mine, adapter)
    assert macs_of(Mine(), (4, 5)) == {32: 4 * 5 * 3}


def test_class_with_an_adapter_whose_shapes_say_nothing(monkeypatch):
    from qframe.layers.adapters import ADAPTERS, Adapter, Weight

    monkeypatch.setitem(ADAPTERS, Scale, Adapter((Weight("scale", "kernel"),)))
    assert macs_of(Scale(), (5,)) == {None: None}


def test_additive_attention_is_not_known():
    query, value = keras.Input((5, 4)), keras.Input((7, 4))
    layer = layers.AdditiveAttention(use_scale=False)
    model = keras.Model([query, value], layer([query, value]))
    assert qf.models.profile(model).mac_count() is None
