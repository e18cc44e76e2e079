"""What is said of quantized weights that other code reads as they were.

A latent weight that doubles keeps its sign. So where the kernels are signs, the outputs
move with the latent weights only where something reads these.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf

pytestmark = [
    pytest.mark.once_per_backend,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]

SIGNS = {"weight_quantizer": "ste_sign"}
IDS = np.array([[1, 2, 3], [4, 0, 9]])


def logits(x, embedding):
    return ops.matmul(x, ops.transpose(embedding.embeddings))


class Tied(layers.Layer):
    """A head that has the weights of an embedding."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        return logits(x, self.embedding)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 10)


class Quantized(Tied):
    """The same, with its weights quantized where they are."""

    def call(self, x):
        with qf.context.quantized_scope(True):
            embeddings = self.embedding.embeddings.value
        return ops.matmul(x, ops.transpose(embeddings))


class Reversible(layers.Embedding):
    """An embedding with a method of its own for the way back."""

    def back(self, x):
        return ops.matmul(x, ops.transpose(self.embeddings))


class Back(Tied):
    """A head that asks the embedding."""

    def call(self, x):
        return self.embedding.back(x)


class Language(keras.Model):
    """A model of code."""

    def __init__(self, head, **kwargs):
        super().__init__(**kwargs)
        self.tokens = Reversible(10, 4, name="tokens")
        self.body = layers.LSTM(4, return_sequences=True)
        self.head = head(self.tokens, name="head") if head else None

    def call(self, ids):
        x = self.body(self.tokens(ids))
        return self.head(x) if self.head else logits(x, self.tokens)


def of_code(head):
    model = Language(head, name="language")
    model(IDS)
    return model


def graph(head, wrapped=False):
    ids = keras.Input((3,), dtype="int32")
    tokens = Reversible(10, 4, name="tokens")
    x = layers.Dense(4, name="body")(tokens(ids))
    made = head(tokens, name="head")
    return keras.Model(ids, layers.TimeDistributed(made)(x) if wrapped else made(x))


def nested(head):
    ids = keras.Input((3,), dtype="int32")
    return keras.Model(ids, graph(head)(ids))


def operation(_):
    ids = keras.Input((3,), dtype="int32")
    tokens = layers.Embedding(10, 4, name="tokens")
    return keras.Model(ids, ops.einsum("bte,ve->btv", tokens(ids), tokens.embeddings))


MODELS = {"code": of_code, "graph": graph, "nested": nested}
WAYS = {
    **{
        f"{m}_{h.__name__}": (MODELS[m], h) for m in MODELS for h in (Tied, Quantized, Back)
    },
    "code_alone": (of_code, None),
    "wrapped": (lambda head: graph(head, wrapped=True), Tied),
    "operation": (operation, None),
}


def predictions(model):
    return ops.convert_to_numpy(model(IDS))


def reads_latent(model):
    """Whether the outputs move where the quantized weights do not."""
    before = predictions(model)
    weights = model.get_weights()
    model.set_weights([2 * w if w.ndim > 1 else w for w in weights])
    moved = not np.array_equal(predictions(model), before)
    model.set_weights(weights)
    return moved


@pytest.mark.parametrize("way", WAYS)
def test_a_note_where_what_is_latent_reaches_the_output(way):
    make, head = WAYS[way]
    model = make(head)
    weights = model.get_weights()
    planned = qf.plan(model, SIGNS).notes
    assert all(map(np.array_equal, model.get_weights(), weights))
    assert qf.quantize(model, SIGNS).notes == planned
    assert qf.models.profile(model).notes == planned
    assert reads_latent(model) == bool(planned)
    assert (head is Quantized) == (not planned)
    for note in planned:
        assert "reads the embeddings of" in note
        assert "embeddings_quantizer=" in note
    qf.strip(model)
    assert not qf.models.profile(model).notes
