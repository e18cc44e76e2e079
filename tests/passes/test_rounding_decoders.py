"""Weights of decoders of text, rounded by moments: the structure that KerasHub has too."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from qframe.passes.rounding.matrices import matrices_of

GROUPS = "integer(bits=4, symmetric=False, granularity='group', group_size=4)"
TOKENS = np.random.default_rng(0).integers(0, 20, (24, 6))
reversible = pytest.mark.skipif(
    not hasattr(layers, "ReversibleEmbedding"), reason="new in later Keras"
)

# The products of queries, keys and values, of their way back, and of experts.
EQUATIONS = [
    ("bqm,muh->bquh", (6, 2, 3), (5, 6), 1),
    ("bkm,mvh->bkvh", (6, 1, 4), (5, 6), 1),
    ("bquh,uhm->bqm", (2, 3, 6), (5, 2, 3), 2),
    ("btd,ndh->btnh", (2, 6, 3), (5, 6), 1),
    ("btd,df->btf", (6, 4), (5, 6), 1),
    ("eti,eih->eth", (3, 6, 4), (5, 6), 1),
]


@pytest.mark.parametrize(("equation", "kernel", "inputs", "summed"), EQUATIONS)
def test_matrices_of_an_equation_equal_einsum(equation, kernel, inputs, summed):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, *inputs)).astype("float32")
    w = rng.normal(size=kernel)
    expected = np.einsum(equation, x, w)
    layer = layers.EinsumDense(equation, (None, *expected.shape[2:]))
    matrices = matrices_of(layer, "kernel", kernel)
    # Each matrix takes its own part of the inputs: that of an expert, or all of it.
    assert matrices.order.shape[1] == np.prod(inputs[-summed:])
    rows = matrices.rows(x)(np.arange(matrices.count(x.shape)))
    actual = np.einsum("gnk,gkf->gnf", rows, w.ravel()[matrices.order])
    np.testing.assert_allclose(actual.ravel(), expected.ravel(), rtol=1e-4)


class Block(layers.Layer):
    """A decoder block, whose layers are called in code."""

    def __init__(self, attention, **kwargs):
        super().__init__(**kwargs)
        self.attention = attention
        self.norms = [layers.LayerNormalization() for _ in range(2)]
        self.gate = layers.EinsumDense("btd,df->btf", (None, 16), activation="silu")
        self.up = layers.Dense(16, use_bias=False)
        self.down = layers.Dense(8)

    def build(self, shape):
        for part in (*self.norms, self.gate, self.up):
            part.build(shape)
        self.attention.build(shape, shape)
        self.down.build((*shape[:-1], 16))

    def call(self, x):
        y = self.norms[0](x)
        x = x + self.attention(y, y, use_causal_mask=True)
        y = self.norms[1](x)
        return x + self.down(self.gate(y) * self.up(y))


def decoder(embedding, is_tied=True):
    keras.utils.set_random_seed(0)
    tokens = keras.Input((6,), dtype="int32")
    x = embedding(tokens)
    attentions = [layers.MultiHeadAttention(2, 4, name="attention")]
    if hasattr(layers, "GroupQueryAttention"):
        attentions.append(layers.GroupQueryAttention(4, 4, 2, name="attention"))
    for i, attention in enumerate(attentions):
        x = Block(attention, name=f"block_{i}")(x)
    x = layers.LayerNormalization(name="last")(x)
    x = embedding(x, reverse=True) if is_tied else layers.Dense(20, name="head")(x)
    return keras.Model(tokens, x)


def outputs(model):
    return ops.convert_to_numpy(model(TOKENS))


def loss_of_signal(model, in_float):
    return np.square(outputs(model) - in_float).mean()


def test_every_product_of_a_decoder_is_rounded():
    model = decoder(layers.Embedding(20, 8, name="tokens"), is_tied=False)
    in_float = outputs(model)
    qf.quantize(model, {"weight_quantizer": GROUPS})
    nearest = loss_of_signal(model, in_float)
    report = qf.round_weights(model, TOKENS, verbose=0)
    rows = {row.path for row in report.rounded}
    kernels = [
        w.path.removesuffix("/kernel") for w in model.weights if w.path.endswith("kernel")
    ]
    assert {path.split("/")[-1] for path in kernels} == {p.split("/")[-1] for p in rows}
    assert len(rows) == len(kernels)
    (row,) = report.skipped
    assert row.path == "tokens"
    assert "looked up" in row.reason
    assert loss_of_signal(model, in_float) < nearest
    qf.strip(model)
    np.testing.assert_array_equal(outputs(model), in_float)


@reversible
def test_a_tied_embedding_is_said_aloud():
    model = decoder(layers.ReversibleEmbedding(20, 8, name="tokens"))
    report = qf.quantize(model, {"weight_quantizer": GROUPS})
    (row,) = [row for row in report.quantized if row.reason]
    assert row.path == "tokens"
    assert "tied" in row.reason
    table = qf.integers(model)["tokens/embeddings"].values
    report = qf.round_weights(model, TOKENS, verbose=0)
    (row,) = report.skipped
    assert "tied" in row.reason
    np.testing.assert_array_equal(qf.integers(model)["tokens/embeddings"].values, table)


@reversible
def test_an_untied_embedding_is_rounded_as_the_dense_layer_that_it_is():
    table, head = layers.Embedding(20, 8, name="tokens"), layers.Dense(20, name="head")
    tokens = keras.Input((6,), dtype="int32")
    keras.utils.set_random_seed(0)
    middle = layers.Dense(8, activation="relu", name="middle")
    head.use_bias = False
    plain = keras.Model(tokens, head(middle(table(tokens))))
    untied = layers.ReversibleEmbedding(20, 8, tie_weights=False, name="tokens")
    middle = layers.Dense(8, activation="relu", name="middle")
    model = keras.Model(tokens, untied(middle(untied(tokens)), reverse=True))
    untied.embeddings.assign(table.embeddings)
    untied.reverse_embeddings.assign(head.kernel)
    model.get_layer("middle").set_weights(plain.get_layer("middle").get_weights())
    for each in (plain, model):
        qf.quantize(each, {"weight_quantizer": GROUPS})
    before = qf.integers(model)["tokens/reverse_embeddings"].values
    for each in (plain, model):
        qf.round_weights(each, TOKENS, verbose=0)
    expected = qf.integers(plain)
    actual = qf.integers(model)
    np.testing.assert_array_equal(
        actual["tokens/reverse_embeddings"].values, expected["head/kernel"].values
    )
    np.testing.assert_array_equal(
        actual["middle/kernel"].values, expected["middle/kernel"].values
    )
    assert (actual["tokens/reverse_embeddings"].values != before).any()
    np.testing.assert_array_equal(outputs(model), outputs(plain))
