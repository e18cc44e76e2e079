"""One model of each topology, with how many of its layers have a kernel.

A fresh process that reloads these models imports this module and qframe, no more: it
holds every custom class that a saved model needs.
"""

import contextlib

import keras
from keras import layers, ops

from qframe.testing.models import Block, Scale, register
from topology_spec import TOPOLOGIES, VECTOR, functional, layer, named, topology

__all__ = ["TOPOLOGIES", "named"]

register()  # a fresh process loads a model before it makes a layer

TIME, IMAGE = (3, 8), (6, 6, 2)

# --- Models.


@topology(2)
def sequential():
    return keras.Sequential([keras.Input(VECTOR), layers.Dense(4), layers.Dense(2)])


@topology(2)
def sequential_built_by_its_first_call():
    return keras.Sequential([layers.Dense(4), layers.Dense(2)])


@functional(2)
def operations(x):
    return layers.Dense(2)(ops.relu(layers.Dense(8)(x)) * 2 + x)


@functional(1)
def shared_layer(x):
    dense = layers.Dense(8)
    return dense(dense(x))


@functional(3)
def nested_two_deep(x):
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5)])
    middle = keras.Sequential([keras.Input((8,)), layers.Dense(6), inner])
    return layers.Dense(2)(middle(x))


@functional(2, [VECTOR, VECTOR])
def model_used_twice(a, b):
    tower = keras.Sequential([keras.Input(VECTOR), layers.Dense(4)])
    return layers.Dense(1)(ops.abs(tower(a) - tower(b)))


@functional(4, [VECTOR, (6,)])
def inputs_and_outputs_in_lists(a, b):
    x = layers.Dense(4)(a) + layers.Dense(4)(b)
    return [layers.Dense(2)(x), layers.Dense(3)(x)]


@functional(4, {"a": VECTOR, "b": (6,)})
def inputs_and_outputs_in_dicts(a, b):
    x = layers.Dense(4)(a) + layers.Dense(4)(b)
    return {"c": layers.Dense(2, name="c")(x), "d": layers.Dense(3, name="d")(x)}


@functional(4, IMAGE)
def residual(x):
    y = layers.Conv2D(2, 3, padding="same")(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Conv2D(2, 3, padding="same")(y)
    x = layers.Add()([x, y, layers.Conv2D(2, 1)(x)])
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model whose call is code, with layers in lists and dicts."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(6)
        self.blocks = [layers.Dense(6), Block(6)]
        self.heads = {"a": layers.Dense(4), "b": layers.Dense(4)}

    def call(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x) + self.heads["b"](x)


@topology(5, subclassed=True)
def subclassed():
    return Subclassed()


@functional(6)
def subclassed_in_functional(x):
    return layers.Dense(2)(Subclassed()(x))


@keras.saving.register_keras_serializable("tests")
class Autoencoder(keras.Model):
    """Code around models that are graphs, one of them used twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.Sequential([keras.Input(VECTOR), layers.Dense(3)])
        self.decoder = keras.Sequential([keras.Input((3,)), layers.Dense(8)])

    def call(self, x):
        code = self.encoder(x)
        return [self.decoder(code), self.decoder(self.encoder(self.decoder(code)))]


@topology(2, subclassed=True)
def functional_in_subclassed():
    return Autoencoder()


@keras.saving.register_keras_serializable("tests")
class Backbone(keras.Model):
    """A graph that its config creates again, as those of KerasHub."""

    def __init__(self, width=4, **kwargs):
        x = keras.Input(VECTOR)
        y = layers.Dense(width, activation="relu", name="stem")(x)
        super().__init__(x, layers.Dense(3)(Block(width)(y)), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}


@topology(3)
def functional_subclass():
    return Backbone()


@functional(4)
def functional_subclass_in_functional(x):
    return layers.Dense(2)(Backbone(5)(x))


@keras.saving.register_keras_serializable("tests")
class Task(keras.Model):
    """A graph around another one, that its own config has."""

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone.input, layers.Dense(2)(backbone.output), **kwargs)
        self.backbone = backbone

    def get_config(self):
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return {"backbone": backbone, "name": self.name}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        return cls(backbone, **config)


@topology(4)
def functional_subclass_around_the_graph_of_another():
    return Task(Backbone())


@keras.saving.register_keras_serializable("tests")
class Named(keras.Sequential):
    """A stack of layers that its config creates again."""

    def __init__(self, **kwargs):
        super().__init__([keras.Input(VECTOR), layers.Dense(8), Backbone()], **kwargs)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@topology(4)
def sequential_subclass():
    return Named()


@topology(2)
def fixed_batch():
    x = keras.Input(batch_shape=(4, *VECTOR))
    return keras.Model(x, layers.Dense(2)(layers.Dense(3)(x)))


@functional(2, TIME, inputs=(None, 8))
def unknown_time(x):
    return layers.LSTM(3)(layers.Conv1D(4, 2, padding="causal")(x))


@functional(2, IMAGE, inputs=(None, None, 2))
def unknown_sizes(x):
    x = layers.Conv2D(3, 3, strides=2, padding="same")(x)
    return layers.Dense(2)(layers.GlobalMaxPooling2D()(x))


@functional(2, IMAGE)
def layers_with_a_state(x):
    x = layers.Normalization(mean=[0.5, 0.1], variance=[1.0, 2.0])(x)
    x = layers.Dropout(0.5)(layers.Conv2D(3, 3)(x))
    x = layers.BatchNormalization()(layers.GaussianNoise(0.1)(x))
    return layers.Dense(2)(layers.Flatten()(x))


@functional(1)
def weights_without_adapter(x):
    return layers.LayerNormalization()(layers.PReLU()(layers.Dense(4)(x)))


@keras.saving.register_keras_serializable("tests")
def double(x):
    return 2 * x


@functional(1)
def lambda_(x):
    return layers.Dense(2)(layers.Lambda(double)(x))


# --- Policies.


def _image_network(dtype=None):
    x = keras.Input(IMAGE)
    y = layers.Conv2D(3, 3, padding="same", dtype=dtype)(x)
    y = layers.BatchNormalization(dtype=dtype)(y)
    y = layers.Flatten(dtype=dtype)(y)
    return keras.Model(x, layers.Dense(2, dtype=dtype)(y))


@topology(2, shapes=IMAGE)
def float16_by_argument():
    return _image_network("mixed_float16")


@contextlib.contextmanager
def global_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _scaled():
    # Keras's own first scale of the loss overflows here: that step would be left out.
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=8.0)


@topology(2, shapes=IMAGE, optimizer=_scaled)
def float16_by_global_policy():
    with global_policy("mixed_float16"):
        return _image_network()


@topology(2, shapes=IMAGE)
def bfloat16_by_global_policy():
    with global_policy("mixed_bfloat16"):
        return _image_network()


@functional(2, TIME)
def float16_recurrent(x):
    x = layers.LSTM(3, return_sequences=True, dtype="mixed_float16")(x)
    return layers.GRU(2, dtype="mixed_float16")(x)


# --- Layers.


layer("layer of layers", 1, lambda: Block(3))
layer("custom layer", 1, Scale)
layer("dense without bias", 1, lambda: layers.Dense(3, use_bias=False))
layer("einsum dense", 1, lambda: layers.EinsumDense("ab,bcd->acd", (2, 3)))
layer("conv 1d", 1, lambda: layers.Conv1D(4, 2, dilation_rate=2), TIME)
layer("conv 2d in groups", 1, lambda: layers.Conv2D(4, 3, groups=2), IMAGE, xla=True)
layer("conv 3d", 1, lambda: layers.Conv3D(2, 2), (3, 4, 3, 2))
layer("depthwise 1d", 1, lambda: layers.DepthwiseConv1D(2), TIME)
layer("depthwise 2d", 1, lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGE)
layer("separable 1d", 1, lambda: layers.SeparableConv1D(3, 2), TIME)
layer("separable 2d", 1, lambda: layers.SeparableConv2D(3, 2), IMAGE)
layer("transposed 1d", 1, lambda: layers.Conv1DTranspose(3, 2, strides=2), TIME)
layer("transposed 2d", 1, lambda: layers.Conv2DTranspose(3, 2, strides=2), IMAGE)
layer("transposed 3d", 1, lambda: layers.Conv3DTranspose(2, 2), (2, 3, 2, 2))


@functional(2, (2, 6, 6), xla=True)
def channels_first(x):
    x = layers.Conv2D(3, 3, strides=2, padding="same", data_format="channels_first")(x)
    x = layers.BatchNormalization(axis=1)(x)
    return layers.Conv2D(2, 2, data_format="channels_first")(x)


@functional(2, (4,), integer=True)
def embedding(x):
    return layers.Dense(2)(layers.Embedding(5, 3)(x))


# --- Recurrent layers.

layer("simple rnn", 1, lambda: layers.SimpleRNN(3), TIME)
layer("lstm", 1, lambda: layers.LSTM(3, dropout=0.2, recurrent_dropout=0.1), TIME)
layer("gru", 1, lambda: layers.GRU(3), TIME)
layer("gru of one bias", 1, lambda: layers.GRU(3, reset_after=False), TIME)
layer("unrolled lstm", 1, lambda: layers.LSTM(3, unroll=True), TIME)
layer("rnn of a cell", 1, lambda: layers.RNN(layers.LSTMCell(3)), TIME)
layer(
    "stacked cells",
    2,
    lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True),
    TIME,
)
layer("conv lstm 1d", 1, lambda: layers.ConvLSTM1D(2, 2), (3, 6, 2))
layer("conv lstm 2d", 1, lambda: layers.ConvLSTM2D(2, 2), (2, 4, 4, 2))
layer("conv lstm 3d", 1, lambda: layers.ConvLSTM3D(2, 2), (2, 3, 3, 3, 1))


@functional(2, TIME)
def states_of_an_rnn(x):
    y, *state = layers.LSTM(3, return_state=True, return_sequences=True)(x)
    return [layers.GRU(3)(y, initial_state=state[0]), *state]


@topology(
    1,
    shapes=TIME,
    untrainable={"torch": "Keras changes the state in place, and PyTorch forbids it"},
)
def stateful_rnn():
    x = keras.Input(batch_shape=(4, *TIME))
    return keras.Model(x, layers.GRU(3, stateful=True)(x))


@functional(3, (4,), integer=True)
def masked_rnn(x):
    x = layers.Embedding(5, 3, mask_zero=True)(x)
    return layers.Bidirectional(layers.LSTM(2))(x)


# --- Wrappers.

layer("time distributed", 1, lambda: layers.TimeDistributed(layers.Dense(3)), TIME)
layer("bidirectional", 2, lambda: layers.Bidirectional(layers.LSTM(3)), TIME)
layer(
    "bidirectional, two layers given",
    2,
    lambda: layers.Bidirectional(
        layers.LSTM(3), backward_layer=layers.LSTM(3, go_backwards=True)
    ),
    TIME,
)
layer(
    "bidirectional in time distributed",
    2,
    lambda: layers.TimeDistributed(layers.Bidirectional(layers.GRU(2))),
    (2, 3, 4),
)
layer(
    "model in time distributed",
    2,
    lambda: layers.TimeDistributed(
        keras.Sequential([keras.Input(VECTOR), layers.Dense(4), layers.Dense(2)])
    ),
    TIME,
)
layer("spectral normalization", 1, lambda: layers.SpectralNormalization(layers.Dense(3)))


# --- Attention.


@functional(4, TIME)
def self_attention(x):
    return layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x)


@functional(4, [TIME, (5, 8), (5, 4)])
def cross_attention(query, value, key):
    return layers.MultiHeadAttention(2, 3)(query, value, key)


@functional(4, TIME)
def causal_attention(x):
    return layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)


@functional(5, (4,), integer=True)
def masked_attention(x):
    x = layers.Embedding(5, 6, mask_zero=True)(x)
    return layers.MultiHeadAttention(2, 3)(x, x)


@functional(4, TIME)
def grouped_query_attention(x):
    return layers.GroupQueryAttention(4, 4, 2)(x, x)


@functional(6, TIME)
def transformer_block(x):
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
    return layers.LayerNormalization()(x + y)


if hasattr(layers, "ReversibleEmbedding"):

    @functional(2, (4,), integer=True)
    def reversible_embedding(x):
        embedding = layers.ReversibleEmbedding(5, 3)
        return embedding(layers.Dense(3)(embedding(x)), reverse=True)
