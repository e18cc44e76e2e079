"""Channels that layers scale for each other where code calls the layers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from float_networks import TIME, VECTOR, call, chain, draw, near
from qframe.errors import ArgumentError

GROUPS = "integer(bits=4, granularity='group', group_size=4, narrow_range=True)"
X = np.random.default_rng(0).normal(size=(8, *TIME)).astype("float32")


class Norm(layers.Layer):
    """A normalization of users, which multiplies by its weight or by 1 + it."""

    def __init__(self, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.offset = offset

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6)
        return x * (self.offset + ops.convert_to_tensor(self.scale))


class Attention(layers.Layer):
    """Four heads of queries for two of keys and values."""

    def __init__(self, is_fused=False, **kwargs):
        super().__init__(**kwargs)
        # It is new in later Keras.
        self.is_fused = is_fused and hasattr(ops, "dot_product_attention")
        self.query = layers.EinsumDense("btm,mnh->btnh", (None, 4, 3), name="query")
        self.key = layers.EinsumDense("btm,mnh->btnh", (None, 2, 3), name="key")
        self.value = layers.EinsumDense("btm,mnh->btnh", (None, 2, 3), name="value")
        self.softmax = layers.Softmax()
        self.out = layers.EinsumDense("btnh,nhm->btm", (None, 4), name="out")

    def build(self, shape):
        for part in (self.query, self.key, self.value):
            part.build(shape)
        self.out.build((*shape[:-1], 4, 3))

    def call(self, x, cache=None):
        key, value = self.key(x), self.value(x)
        if cache is not None:
            key = ops.concatenate([cache[0], key], 1)
            value = ops.concatenate([cache[1], value], 1)
        key, value = ops.repeat(key, 2, axis=2), ops.repeat(value, 2, axis=2)
        if self.is_fused:
            y = ops.dot_product_attention(self.query(x), key, value)
        else:
            scores = ops.einsum("bqnh,bknh->bnqk", self.query(x), key)
            y = ops.einsum("bnqk,bknh->bqnh", self.softmax(scores), value)
        y = self.out(y)
        return y if cache is None else (y, key)


class Block(layers.Layer):
    """A decoder block of users."""

    def __init__(self, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.before, self.between = (
            Norm(offset, name="before"),
            Norm(offset, name="between"),
        )
        self.attention = Attention(offset == 1, name="attention")
        self.gate = layers.Dense(6, name="gate")
        self.up = layers.Dense(6, use_bias=False, name="up")
        self.dropout = layers.Dropout(0.5)
        self.down = layers.Dense(4, name="down")

    def build(self, shape):
        for part in (self.before, self.between, self.attention, self.gate, self.up):
            part.build(shape)
        self.down.build((*shape[:-1], 6))

    def call(self, x, training=None):
        x = x + self.attention(self.before(x))
        y = self.between(x)
        gate = ops.silu(ops.cast(self.gate(y), "float32"))
        y = ops.multiply(ops.cast(gate, self.compute_dtype), self.up(y))
        return x + self.dropout(self.down(y), training=training)


def decoder(offset=0.0):
    return chain(Block(offset, name="block"), layers.Dense(3, name="head"), shape=TIME)


class Coded(keras.Model):
    """A model whose call is code."""

    def __init__(self, block):
        super().__init__()
        self.block, self.head = block, layers.Dense(3, name="head")

    def call(self, x):
        return self.head(self.block(x))


def coded(offset=0.0):
    keras.utils.set_random_seed(0)
    model = Coded(Block(offset, name="block"))
    model(X)
    return draw(model)


def values(layer):
    return [w.astype(float) for w in layer.get_weights()]


def names(report):
    return {row.path.split("/")[-1] for row in report.equalized}


def reasons(report):
    return {row.path.split("/")[-1]: row.reason for row in report.skipped}


EQUALIZED = {"query", "key", "value", "out", "gate", "up", "down", "before", "between"}


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("make", [decoder, coded])
@pytest.mark.parametrize("method", ["smoothquant", "awq"])
def test_a_block_of_users_computes_the_same_with_scaled_channels(method, make, offset):
    model = make(offset)
    block = model.block if make is coded else model.layers[0]
    parts = [block.before, block.attention.value, block.attention.out, block.gate]
    norm, value, out, gate = (values(part) for part in parts)
    before = call(model, [X])
    report = qf.equalize(model, X, method, verbose=0)
    near(call(model, [X]), before)
    assert names(report) == EQUALIZED
    assert reasons(report) == {"head": reasons(report)["head"]}
    # One scale of each channel of a head of values, which two heads of outputs read.
    after = [values(part) for part in parts]
    scale = after[2][0][::2, :, :1] / out[0][::2, :, :1]
    near([after[2][0]], [out[0] * np.repeat(scale, 2, 0)])
    of_input = ((norm[0] + offset) / (after[0][0] + offset))[:, None]
    near([after[1][0]], [value[0] * of_input[..., None] / scale[None, :, :, 0]])
    between = after[3][0] / gate[0]
    near([between], [np.repeat(between[:, :1], 6, 1)])
    assert np.abs(np.log(scale)).max() > 1e-3
    assert np.abs(np.log(of_input)).max() > 1e-3


def test_cle_scales_what_the_code_of_a_model_calls_as_numpy_does():
    class Perceptron(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = layers.Dense(4, name="a"), layers.Dense(3, name="b")

        def call(self, x):
            return self.last(ops.relu(self.first(x)))

    model = Perceptron()
    x = np.random.default_rng(0).normal(size=(4, *VECTOR)).astype("float32")
    model(x)
    draw(model)
    (a, b), (c, d) = values(model.first), values(model.last)
    s = np.sqrt(np.abs(a).max(0) / np.abs(c).max(1))
    qf.equalize(model)
    near([*values(model.first), *values(model.last)], [a / s, b / s, c * s[:, None], d])


def test_four_bits_lose_less_where_some_channels_are_large():
    model = decoder()
    for norm in (model.layers[0].before, model.layers[0].between):
        norm.scale.assign([1.0, 30.0, -0.5, 0.8])
    in_float = call(model, [X])[0]

    def loss():
        qf.quantize(model, {"weight_quantizer": GROUPS})
        result = np.square(call(model, [X])[0] - in_float).mean()
        qf.strip(model)
        return result

    nearest = loss()
    qf.equalize(model, X, "awq", bits=4, group_size=4, verbose=0)
    kept = model.get_weights()
    assert loss() < 0.7 * nearest
    for a, b in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_call_with_a_cache_remains_and_the_report_says_it_was_not_followed():
    model = decoder()
    attention = model.layers[0].attention
    report = qf.equalize(model, X, "awq", verbose=0)
    (note,) = report.notes
    assert "code of Attention was followed as the model calls it, without cache" in note
    whole = ops.convert_to_numpy(attention(X))
    past = X[:, :3]
    cache = attention.key(past), attention.value(past)
    last, _ = attention(X[:, 3:], cache=cache)
    near([ops.convert_to_numpy(last)], [whole[:, 3:]])


class TakesAMask(Norm):
    """A normalization whose weight is not the last factor where there is a mask."""

    def call(self, x, mask=None):
        y = super().call(x)
        return y if mask is None else ops.where(mask[..., None], y, ops.ones_like(y))


def test_a_mask_without_which_code_was_followed_is_named():
    class Masked(Coded):
        def call(self, x, mask=None):
            return super().call(x) if mask is None else ops.tanh(x)

    keras.utils.set_random_seed(0)
    model = Masked(Block(name="block"))
    model(X)
    (note,) = qf.equalize(draw(model)).notes[-1:]
    assert "code of Masked was followed as the model calls it, without mask" in note


def test_a_normalization_of_users_with_a_mask_makes_no_channels():
    keras.utils.set_random_seed(0)
    x, dense = keras.Input(TIME), layers.Dense(3, name="dense")
    mask = keras.Input(TIME[:1], dtype="bool")
    y = TakesAMask(name="norm")(x, mask=mask)
    model = draw(keras.Model([x, mask], dense(y)))
    # No example has a position that is masked.
    data = [X, np.ones(X.shape[:2], bool)]
    with pytest.raises(ArgumentError, match="no scale passes"):
        qf.equalize(model, data, "smoothquant", verbose=0)


def test_following_code_leaves_no_trace_of_itself():
    model = decoder()
    block = model.layers[0]
    parts = [block, *block._flatten_layers(include_self=False)]

    def state():
        nodes = [[*map(id, p._inbound_nodes), *map(id, p._outbound_nodes)] for p in parts]
        return nodes, [sorted(vars(part)) for part in parts]

    before, name = state(), layers.Dense(1).name
    qf.equalize(model, X, "awq", verbose=0)
    assert state() == before
    number = int(name.rpartition("_")[2]) if name[-1].isdigit() else 0
    assert layers.Dense(1).name == f"dense_{number + 1}"


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_blocks_in_half_precision_are_equalized(dtype):
    keras.config.set_dtype_policy(dtype)
    try:
        model = decoder()
    finally:
        keras.config.set_dtype_policy("float32")
    before = call(model, [X])
    assert names(qf.equalize(model, X, "smoothquant", verbose=0)) == EQUALIZED
    near(call(model, [X]), before, 5e-2)


class Tokens(keras.Model):
    """A decoder of tokens whose call is code, with a tied embedding."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding, self.block = embedding, Block(name="block")
        self.last = Norm(name="last")

    def call(self, tokens):
        x = self.last(self.block(self.embedding(tokens)))
        return self.embedding(x, reverse=True)


@pytest.mark.parametrize("method", ["cle", "awq"])
def test_a_tied_embedding_is_left_with_its_reason(method):
    if not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip("new in later Keras")
    model = Tokens(layers.ReversibleEmbedding(9, 4, name="tokens"))
    tokens = np.random.default_rng(0).integers(0, 9, (8, 6))
    model(tokens)
    draw(model)
    before = call(model, [tokens])
    # Batches that can be read once: outputs are compared on numbers that are drawn.
    batches = ((each,) for each in (tokens[:4], tokens[4:]))
    data = () if method == "cle" else (batches, method)
    report = qf.equalize(model, *data, verbose=0)
    near(call(model, [tokens]), before)
    assert {"out", "down"} <= names(report)
    assert "last" not in names(report)
    assert "it is tied" in reasons(report)["tokens"]


class Passes(layers.Layer):
    """A layer whose code passes a scale."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.relu = layers.ReLU()

    def call(self, x):
        return ops.cast(self.relu(x), "float32")


def test_scales_go_into_code_and_out_again_at_each_call():
    x = keras.Input(TIME)
    passes, last = Passes(), layers.Dense(4, name="last")
    y = layers.Dense(4, name="one")(x)
    z = layers.Dense(4, name="two")(x)
    # Both calls of the last layer read what both others make.
    model = draw(keras.Model(x, [ops.tanh(last(passes(y))), ops.tanh(last(passes(z)))]))
    before = call(model, [X])
    first = [values(model.get_layer(name))[0] for name in ("one", "two")]
    kernel = values(last)[0]
    report = qf.equalize(model)
    near(call(model, [X]), before)
    assert names(report) == {"one", "two", "last"}
    scale = values(last)[0][:, 0] / kernel[:, 0]
    after = [values(model.get_layer(name))[0] for name in ("one", "two")]
    near([each * scale for each in after], first)


class Between(layers.Layer):
    """A function between two layers."""

    def __init__(self, function):
        super().__init__(name="between")
        self.function = function
        self.a, self.b = layers.Dense(4, name="a"), layers.Dense(3, name="b")

    def build(self, shape):
        self.a.build(shape)
        example = keras.Input(batch_shape=(2, *shape[1:-1], 4))
        self.b.build(self.function(example).shape)

    def call(self, x):
        return self.b(self.function(self.a(x)))


def heads(y):
    return ops.reshape(y, (-1, 6, 2, 2))


def merged(y):
    return ops.reshape(y, (-1, 6, 4))


def turned(y):
    y = ops.transpose(heads(y), (0, 2, 3, 1))
    return merged(ops.transpose(ops.matmul(y, SQUARE), (0, 3, 1, 2)))


SQUARE = np.random.default_rng(0).normal(size=(6, 6)).astype("float32")
LINE = np.arange(4, dtype="float32") + 1
FUSED = getattr(ops, "dot_product_attention", None)
PASSES = {
    "matmul": lambda y: ops.matmul(SQUARE, y),
    "transpose": turned,
    "divide": lambda y: ops.divide(y, LINE),
    "mask": lambda y: ops.multiply(y, SQUARE[:, :1]),
    "where": lambda y: ops.where(SQUARE[:, :1] > 0, y, ops.zeros_like(y)),
    "repeat": lambda y: ops.repeat(y, 2, axis=-1),
    "repeat others": lambda y: ops.repeat(y, 2, axis=1),
    "negative": lambda y: -ops.abs(y),
    "einsum": lambda y: merged(ops.einsum("bthd,ts->bshd", heads(y), SQUARE)),
    "flat": lambda y: ops.reshape(y, (-1, 4)),
}
BLOCKS = {
    "matmul": (lambda y: ops.matmul(y, SQUARE[:4]), "mixes the channels"),
    "square": (lambda y: ops.matmul(y, ops.transpose(y, (0, 2, 1))), "mixes the channels"),
    "batch": (lambda y: ops.transpose(y, (1, 0, 2)), "moves the axis of the examples"),
    "divisor": (lambda y: ops.divide(LINE, ops.abs(y)), "by each other or mixes"),
    "where": (lambda y: ops.where(SQUARE[:, :1] > 0, y, 1.0), "takes a constant too"),
    "condition": (lambda y: ops.where(y > 0, y, y), "(Greater)"),
    "flat repeat": (lambda y: ops.reshape(ops.repeat(y, 2), (-1, 6, 8)), "unevenly"),
    "einsum": (lambda y: ops.einsum("btd,de->bte", y, SQUARE[:4]), "mixes the channels"),
    "einsum square": (lambda y: ops.einsum("btd,btd->btd", y, y), "by each other"),
    "dots": (lambda y: ops.einsum("...d,d->...d", y, LINE), "with '...'"),
    "attention": (lambda y: FUSED(*[heads(y)] * 3), "by each other"),
    "softmax": (lambda y: ops.softmax(y), "(Softmax)"),
    "integers": (lambda y: ops.cast(ops.cast(y, "int32"), "float32"), "makes int32"),
}


def between(function):
    keras.utils.set_random_seed(0)
    x = keras.Input(TIME)
    return draw(keras.Model(x, Between(function)(x)))


@pytest.mark.parametrize("name", PASSES)
def test_a_scale_passes_an_operation_in_code(name):
    model = between(PASSES[name])
    before = call(model, [X])
    kernel = values(model.layers[1].a)[0]
    qf.equalize(model)
    near(call(model, [X]), before)
    scale = kernel / values(model.layers[1].a)[0]
    assert np.abs(np.log(scale)).max() > 1e-2


if FUSED is None:
    del BLOCKS["attention"]


@pytest.mark.parametrize("name", BLOCKS)
def test_no_scale_passes_an_operation_in_code(name):
    function, reason = BLOCKS[name]
    with pytest.raises(ArgumentError, match="can be equalized by 'cle'") as error:
        qf.equalize(between(function))
    assert reason in str(error.value)


# --- What is left as it is.


class Pair(layers.Layer):
    """Two layers that code calls; subclasses do what cannot be followed, or is no pair."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(5, name="a"), layers.Dense(5, name="b")

    def build(self, shape):
        self.a.build(shape)
        self.b.build(shape)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 5)

    def call(self, x):
        return self.b(ops.relu(self.a(x)))


class NeedsNumbers(Pair):
    def call(self, x):
        return super().call(x) * float(ops.convert_to_numpy(ops.max(x)))


class ReadsAWeight(Pair):
    def call(self, x):
        return super().call(x) + ops.sum(ops.convert_to_tensor(self.a.kernel), 0)


class CallsTheMethod(Pair):
    def call(self, x):
        return super().call(x) + self.b.call(ops.tanh(x))


class DiffersInTraining(Pair):
    def call(self, x, training=False):
        y = self.a(x)
        return self.b(ops.tanh(y) if training else y)


class DiffersInTrainingBelow(layers.Layer):
    """Code with the argument is called by code without it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = DiffersInTraining(name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


class DiffersForLongInputs(Pair):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.c = layers.Dense(5, name="c")

    def build(self, shape):
        super().build(shape)
        self.c.build(shape)

    def call(self, x):
        y = ops.relu(self.a(x))
        return self.b(y) if x.shape[0] < 100 else self.c(y)


class HasNoAttribute(Pair):
    """A layer that the code has and Keras does not track."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        last = layers.Dense(5, name="last")
        self.hidden = lambda: last

    def build(self, shape):
        super().build(shape)
        self.hidden().build(shape)

    def call(self, x):
        y = self.a(x)
        return self.hidden()(y) + self.b(y)


class ChoosesAWeight(Pair):
    """A number for each channel, which no example of the check has."""

    def build(self, shape):
        super().build(shape)
        self.token = self.add_weight(name="token", shape=(1, shape[-1]))

    def call(self, x):
        y = self.a(x)
        return self.b(ops.where(ops.max(x, -1, keepdims=True) > 1e3, self.token, y))


class HasALoss(Pair):
    def call(self, x):
        y = self.a(x)
        self.add_loss(ops.mean(ops.square(y)))
        return self.b(y)


class ReturnsBoth(Pair):
    def call(self, x):
        y = self.a(x)
        return self.b(y) + y


class Unbuilt(Pair):
    def build(self, shape):
        self.a.build(shape)

    def call(self, x):
        return self.a(x)


class DiffersWhenItRuns(Pair):
    """A layer whose code does something else with tensors that have values."""

    def call(self, x):
        y = self.a(x)
        return self.b(y if isinstance(y, keras.KerasTensor) else ops.tanh(y))


REFUSALS = {
    NeedsNumbers: "'a' may be called by the code of 'pair', which cannot be followed: ",
    ReadsAWeight: "'pair' reads a weight of 'a' too",
    CallsTheMethod: "the code of 'pair' reads a weight of 'b'",
    DiffersInTraining: "no scale passes 'tanh",
    DiffersInTrainingBelow: "no scale passes 'tanh",
    DiffersForLongInputs: "which cannot be followed: no call of it reaches 'c'",
    HasNoAttribute: "code calls 'last', which is no attribute of a layer",
    ChoosesAWeight: "takes a constant too",
    HasALoss: "(Square)",
    ReturnsBoth: "the channels are an output of",
    Unbuilt: "which cannot be followed: 'b' is not built",
    DiffersWhenItRuns: "with it, outputs of ",
}


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_code_that_is_not_known_keeps_its_layers_with_the_reason(kind):
    keras.utils.set_random_seed(0)
    x = keras.Input(VECTOR)
    model = draw(keras.Model(x, kind(name="pair")(x)))
    before = model.get_weights()
    with pytest.raises(ArgumentError, match="can be equalized by 'cle'") as error:
        qf.equalize(model)
    assert REFUSALS[kind] in str(error.value)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class Part(keras.Model):
    """A model of code with one layer."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def call(self, x):
        return ops.relu(self.dense(x))


class Autoencoder(keras.Model):
    """Two models in code, or a layer and a model."""

    def __init__(self, first, last):
        super().__init__()
        self.first, self.last = first, last

    def call(self, x):
        return self.last(self.first(x))


def in_code(first, last):
    model = Autoencoder(first, last)
    model(X)
    return model


def in_a_graph(first, last):
    x = keras.Input(TIME)
    return keras.Model(x, last(first(x)))


@pytest.mark.parametrize("make", [in_code, in_a_graph])
@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ((Part, Part), "the channels are an output of 'first'"),
        ((layers.Dense, Part), "the channels are an input of 'last'"),
        ((Part, layers.Dense), "the channels are an output of 'first'"),
    ],
)
def test_what_a_model_in_code_takes_and_returns_remains(kinds, reason, make):
    first, last = kinds
    model = draw(make(first(6, name="first"), last(3, name="last")))
    z = np.ones((2, 6, 6), "float32")
    before = [*call(model.get_layer("first"), [X]), *call(model.get_layer("last"), [z])]
    with pytest.raises(ArgumentError, match="can be equalized by 'cle'") as error:
        qf.equalize(model)
    assert reason in str(error.value)
    near(
        [*call(model.get_layer("first"), [X]), *call(model.get_layer("last"), [z])], before
    )


class Counts(Pair):
    """Code with state."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls, self.seen = 0, []

    def call(self, x):
        self.calls += 1
        self.seen.append(np.random.rand())
        return super().call(x)


def test_state_of_code_is_as_before_without_data():
    keras.utils.set_random_seed(0)
    x = keras.Input(VECTOR)
    model = draw(keras.Model(x, Counts(name="counts")(x)))
    counts = model.layers[1]
    before = counts.calls, [*counts.seen], np.random.get_state()[2]
    assert names(qf.equalize(model)) == {"a", "b"}
    assert (counts.calls, [*counts.seen], np.random.get_state()[2]) == before


def test_a_group_that_changes_outputs_is_left_and_others_are_equalized():
    x = keras.Input(VECTOR)
    y = DiffersWhenItRuns(name="pair")(x)
    model = draw(keras.Model(x, Pair(name="other")(y)))
    before = call(model)
    report = qf.equalize(model)
    near(call(model), before)
    found = {row.path: (row.settings, row.reason) for row in report.rows}
    assert [*found["other/a"][0]] == ["inputs", "outputs"]
    assert [*found["pair/b"][0]] == ["outputs"]
    assert "with it, outputs of" in found["pair/b"][1]
    assert not found["pair/a"][0]


def test_layers_in_a_wrapper_or_held_by_other_code_are_left():
    x = keras.Input(TIME)
    pair = Pair(name="pair")
    model = draw(keras.Model(x, layers.TimeDistributed(pair, name="each")(x)))
    with pytest.raises(ArgumentError, match="'a' may be called by the code of 'pair'"):
        qf.equalize(model)

    class Holder(layers.Layer):
        def __init__(self, part):
            super().__init__()
            self.part = part

        def call(self, x):
            return float(ops.convert_to_numpy(x).max()) * self.part(x)

    keras.utils.set_random_seed(0)
    x = keras.Input(VECTOR)
    pair = Pair(name="pair")
    model = draw(keras.Model(x, pair(x)))
    holder = Holder(pair)
    other = Coded(holder)
    other.head.build((None, 5))
    with pytest.raises(ArgumentError, match="may be called by the code of"):
        qf.equalize(model)
    del other, holder


class Late(Norm):
    """A weight that is not the last factor."""

    def call(self, x):
        return ops.tanh(super().call(x))


class Idle(Norm):
    """A weight that the call does not use."""

    def build(self, shape):
        super().build(shape)
        self.other = self.add_weight(name="other", shape=(shape[-1],))


class Shifted(Norm):
    """A scale and a shift."""

    def build(self, shape):
        super().build(shape)
        self.shift = self.add_weight(name="shift", shape=(shape[-1],))

    def call(self, x):
        return super().call(x) + self.shift


class Mixed(Norm):
    """A weight of the channel before."""

    def call(self, x):
        y = super().call(x)
        return y / self.scale * ops.roll(ops.convert_to_tensor(self.scale), 1)


class InTraining(Norm):
    def call(self, x, training=False):
        y = super().call(x)
        return ops.tanh(y) if training else y


MAKERS = [(Norm, 0.0), (Norm, 1.0), (Shifted, 0.0), (Shifted, 1.0)]
OTHERS = [(Norm, 2.0), (Late, 0.0), (Idle, 0.0), (Mixed, 0.0), (InTraining, 0.0)]


@pytest.mark.parametrize(("kind", "offset"), MAKERS + OTHERS)
def test_a_layer_of_users_makes_channels_where_its_weights_multiply_last(kind, offset):
    norm = kind(offset)
    model = chain(norm, layers.Dense(3, name="dense"), shape=TIME)
    before = call(model, [X])
    if (kind, offset) in OTHERS:
        with pytest.raises(ArgumentError, match="no scale passes"):
            qf.equalize(model, X, "smoothquant", verbose=0)
        return
    kept = [v + offset * (i == 0) for i, v in enumerate(values(norm))]
    kernel = values(model.layers[-1])[0]
    qf.equalize(model, X, "smoothquant", verbose=0)
    near(call(model, [X]), before)
    s = (values(model.layers[-1])[0] / kernel)[:, 0]
    after = [v + offset * (i == 0) for i, v in enumerate(values(norm))]
    near([each * s for each in after], kept)
    assert np.abs(np.log(s)).max() > 1e-2
