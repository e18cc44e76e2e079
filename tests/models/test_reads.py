"""The notes on quantized weights that other code reads as latent values.

A latent weight that doubles keeps its sign. So where the kernels are signs, the outputs
move with the latent weights only where something reads these.
"""

import dataclasses
import random
import types
import weakref

import h5py
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


FUNCTIONS = {"logits": logits}
helpers = types.ModuleType("helpers")
helpers.logits = logits


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
    """An embedding with a second method that maps vectors back to tokens."""

    def back(self, x):
        return ops.matmul(x, ops.transpose(self.embeddings))


class Back(Tied):
    """A head that asks the embedding."""

    def call(self, x):
        return self.embedding.back(x)


def forward(self, x):
    return logits(x, self.embedding)


class Forward(Tied):
    """A head whose call has another name."""

    call = forward


class Static(Tied):
    """A head with a static helper, which asks a module."""

    @staticmethod
    def helper(x, embedding):
        return helpers.logits(x, embedding)

    def call(self, x):
        return self.helper(x, self.embedding)


class Held(layers.Layer):
    """A head that holds the variable itself."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.table = [embedding.embeddings]

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.table[0]))


class Dispatching(Tied):
    """A head that finds its function in a dict."""

    def call(self, x):
        return FUNCTIONS["logits"](x, self.embedding)


class Conditional(Tied):
    """A head that reads within a condition."""

    def call(self, x):
        read = lambda: logits(x, self.embedding)  # noqa: E731
        return ops.cond(ops.greater(ops.max(x), -1e9), read, read)


class Otherwise(Tied):
    """A head that calls itself otherwise."""

    def call(this, x):
        return logits(x, this.embedding)


class AnyNumber(Tied):
    """A head that takes any number of arguments."""

    def call(self, *given):
        return logits(given[0], self.embedding)


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


class Counting(Language):
    """A model of code that needs integers."""

    def call(self, ids):
        return super().call(ops.take(ops.arange(10), ids))


class Around(keras.Model):
    """A model of code around a model."""

    def __init__(self, inner):
        super().__init__(name="around")
        self.inner = inner

    def call(self, ids):
        return self.inner(ids)


def called(model):
    model(IDS)
    return model


def of_code(head):
    return called(Language(head, name="language"))


def graph(head, wrapped=False):
    ids = keras.Input((3,), dtype="int32")
    tokens = Reversible(10, 4, name="tokens")
    x = layers.Dense(4, name="body")(tokens(ids))
    made = head(tokens, name="head")
    return keras.Model(ids, layers.TimeDistributed(made)(x) if wrapped else made(x))


def in_code(head):
    return called(Around(graph(head)))


def function(kind):
    """A function of a user's, called by a layer of Keras."""

    def make(_):
        ids = keras.Input((3,), dtype="int32")
        tokens = Reversible(10, 4, name="tokens")
        read = lambda x: logits(x, tokens)  # noqa: E731
        made = layers.Lambda(read, (3, 10)) if kind == "lambda" else layers.Activation(read)
        return keras.Model(ids, made(tokens(ids)))

    return make


def nested(head):
    ids = keras.Input((3,), dtype="int32")
    return keras.Model(ids, graph(head)(ids))


def built_before(head):
    """A graph whose embedding is there before what holds its variable."""
    ids = keras.Input((3,), dtype="int32")
    tokens = layers.Embedding(10, 4, name="tokens")
    x = tokens(ids)
    return keras.Model(ids, head(tokens, name="head")(x))


def operation(_):
    ids = keras.Input((3,), dtype="int32")
    tokens = layers.Embedding(10, 4, name="tokens")
    return keras.Model(ids, ops.einsum("bte,ve->btv", tokens(ids), tokens.embeddings))


MODELS = {"code": of_code, "graph": graph, "nested": nested, "in_code": in_code}
WAYS = {
    **{
        f"{m}_{h.__name__}": (MODELS[m], h) for m in MODELS for h in (Tied, Quantized, Back)
    },
    "code_alone": (of_code, None),
    "wrapped": (lambda head: graph(head, wrapped=True), Tied),
    "operation": (operation, None),
    "operation_in_code": (lambda _: called(Around(operation(None))), None),
    "lambda": (function("lambda"), None),
    "activation": (function("activation"), None),
    "condition": (of_code, Conditional),
    "integers": (lambda _: called(Counting(None)), None),
    "other_names": (of_code, Otherwise),
    "any_number": (of_code, AnyNumber),
    "forward": (graph, Forward),
    "static": (graph, Static),
    "held": (built_before, Held),
    "dispatched": (graph, Dispatching),
}


def predictions(model):
    return ops.convert_to_numpy(model(IDS))


def reads_latent(model):
    """Return whether the outputs move where the quantized weights do not."""
    before = predictions(model)
    weights = model.get_weights()
    model.set_weights([2 * w if w.ndim > 1 else w for w in weights])
    moved = not np.array_equal(predictions(model), before)
    model.set_weights(weights)
    return moved


@pytest.mark.one_case_in(2)
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


# Code that does not read a weight.


class Sized(keras.Model):
    """A model of code that asks for a shape, and holds what its call was given."""

    def __init__(self):
        super().__init__()
        self.tokens = layers.Embedding(10, 4, name="tokens", activity_regularizer="l2")
        self.calls, self.last, self.seen, self.facts = 0, None, [], {"calls": 0}
        self.python, self.numpy = random.Random(1), np.random.default_rng(1)
        # JAX draws nothing without one where it traces.
        jax = keras.backend.backend() == "jax"
        self.seed = keras.random.SeedGenerator(1) if jax else None

    def call(self, ids):
        self.calls, self.last = self.calls + 1, ids
        self.seen.append(ids)
        self.facts["calls"] += 1
        x = self.tokens(ids)
        drawn = random.random() + self.python.random() + self.numpy.random()
        self.add_loss(ops.sum(self.tokens.embeddings) * drawn)
        count = ops.cast(ops.shape(self.tokens.embeddings)[0], "float32")
        return x * count * keras.random.uniform((), seed=self.seed) * np.random.random()


def state_of(model):
    generators = model.python.getstate(), model.numpy.bit_generator.state
    return model.losses, model.calls, model.last, [*model.seen], {**model.facts}, generators


def test_search_of_reads_restores_attributes_and_random_state():
    model = called(Sized())
    before = state_of(model)

    def draws(*passes):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(7)
        notes = [each(model, SIGNS).notes for each in passes]
        assert all("reads the embeddings" in note for (note,) in notes)
        return random.random(), np.random.random(), float(keras.random.uniform(()))

    assert draws(qf.plan) == draws()
    for now, was in zip(state_of(model), before, strict=True):
        assert now is was or now == was


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow's")
def test_functions_of_tensorflow_go_on_to_assign():
    import tensorflow as tf

    class Counted(Language):
        def __init__(self):
            super().__init__(Tied)
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def build(self, shape):
            self.tokens.build(shape)
            self.body.build((None, 3, 4))
            self.head.build((None, 3, 4))
            self.built = True

        @tf.function(reduce_retracing=True)
        def counted(self, x):
            self.count.assign_add(1.0)
            return self.body(x)

        def call(self, ids):
            return self.head(self.counted(self.tokens(ids)))

    model = Counted()
    model.build((None, 3))
    assert len(qf.plan(model, SIGNS).notes) == 1
    assert not tf.config.functions_run_eagerly()
    for _ in range(3):
        model(IDS)
    assert float(model.count) == 3


class Sub(layers.Layer):
    """A part that reads the kernel of the layer that it is in, during its call."""

    def __init__(self, owner):
        super().__init__()
        self.owner = lambda: owner

    def call(self, x):
        return ops.matmul(x, self.owner().kernel)


class Owner(layers.Dense):
    """A layer that leaves its product to a part."""

    def __init__(self):
        super().__init__(4, use_bias=False)
        self.sub = Sub(self)

    def call(self, x):
        return self.sub(x)


def owner():
    ids = keras.Input((3,), dtype="int32")
    return keras.Model(ids, Owner()(ops.cast(ids, "float32")))


class NoModule:
    """Of a class that is in no module."""

    __module__ = None


class Odd:
    """An object that raises where it is asked for anything."""

    def __getattr__(self, name):
        raise RuntimeError(name)


def itself():
    return itself


itself.__wrapped__ = itself


class Hoarder(layers.Layer):
    """A layer whose code may hold anything."""

    def call(self, x):
        return x


# By functions that make them: pytest asks too.
THINGS = {
    "no_module": NoModule,
    "odd": Odd,
    "itself": lambda: itself,
    "dead": lambda: weakref.proxy(Odd()),
    "class_of_cython": lambda: h5py.File,
    "function_of_cython": lambda: h5py.h5f.open,
}


@pytest.mark.parametrize("name", THINGS)
def test_layers_with_unusual_attributes_are_quantized(name):
    thing, hoarder = THINGS[name](), Hoarder()
    hoarder.read = lambda: (thing, hoarder.weights)  # so that it is called
    vars(hoarder)["thing"] = thing  # Keras asks what is set
    model = keras.Sequential([keras.Input((3,)), hoarder, layers.Dense(4)])
    assert len(qf.quantize(model, SIGNS).quantized) == 1


class Shape(Tied):
    """A layer that reads a shape alone."""

    def call(self, x):
        return x * ops.cast(ops.shape(self.embedding.embeddings)[0], "float32")


class Half(layers.Dense):
    """A layer whose call is code, with the kernel of another one if there is one."""

    def __init__(self, other=None, **kwargs):
        super().__init__(4, use_bias=False, **kwargs)
        self.other = lambda: other  # Keras would hold a layer for a part of this one

    def build(self, shape):
        if self.other() is None:
            super().build(shape)
        else:
            self._kernel, self.bias, self.built = self.other()._kernel, None, True

    def call(self, x):
        return super().call(x) / 2


def halves():
    """Two of them with one variable, which each quantizes itself."""
    ids = keras.Input((3,), dtype="int32")
    x = ops.cast(ids, "float32")
    first = Half(name="a")
    return keras.Model(ids, layers.Add()([first(x), Half(first, name="b")(x)]))


@pytest.mark.parametrize(
    "make",
    [lambda: of_code(Shape), halves, owner],
    ids=["shape", "shared", "owner"],
)
def test_no_note_where_nothing_latent_is_read(make):
    model = make()
    assert qf.plan(model, SIGNS).notes == ()
    assert qf.quantize(model, SIGNS).notes == ()
    assert not reads_latent(model)


class Deep(keras.Model):
    """A model of code that is built with more than a shape."""

    def __init__(self):
        super().__init__()
        self.tokens = layers.Embedding(10, 4, name="tokens")

    def build(self, input_shape, depth=3):
        self.tokens.build(input_shape)
        self.built = True

    def call(self, ids):
        return logits(self.tokens(ids), self.tokens)


class Constant(layers.Layer):
    """A layer that is given nothing."""

    def __init__(self):
        super().__init__()
        self.tokens = layers.Embedding(10, 4, name="tokens")

    def build(self, input_shape):
        self.tokens.build(input_shape)

    def call(self):
        return self.tokens.embeddings[:3]


@pytest.mark.parametrize("options", [{"depth": 5}, {}], ids=["deep", "constant"])
def test_model_without_a_symbolic_call_is_quantized(options):
    model = Deep() if options else Constant()
    model.build((None, 3), **options)
    assert len(qf.quantize(model, SIGNS).quantized) == 1


@dataclasses.dataclass  # which makes it a thing without a hash
class Sign:
    """A quantizer of a user's."""

    scale: float = 1.0

    def __call__(self, x):
        return self.scale * ops.sign(x)


def test_a_quantizer_without_a_hash():
    (note,) = qf.quantize(of_code(Tied), {"embeddings_quantizer": Sign()}).notes
    assert "embeddings_quantizer=Sign(scale=1.0)" in note
