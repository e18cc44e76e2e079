"""The replaced settings and the numbers in float, in reports of plans."""

import keras
import pytest
from keras import layers

import qframe as qf
from qframe.registry.discovery import registry

pytestmark = [
    pytest.mark.once_per_backend,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]

SIGN = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
CLIP = "binary:weight_clip(clip_value=1.0)"


def network():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, name="a", kernel_constraint=keras.constraints.MaxNorm(3)),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="b", use_bias=False),
        ]
    )


def rows(report):
    return {row.path: row for row in report.rows}


def constraints(model):
    kernels = (model.get_layer(name).kernel for name in "ab")
    return [kernel.constraint for kernel in kernels]


def test_a_constraint_of_the_user_is_named_and_strip_gives_it_back():
    model = network()
    own = constraints(model)
    planned, done = qf.plan(model, SIGN), qf.quantize(model, SIGN)
    assert planned.rows == done.rows
    assert rows(done)["a"].replaced == {"kernel_constraint": "MaxNorm(max_value=3, axis=0)"}
    assert rows(done)["b"].replaced == {}
    assert "kernel_constraint=binary:weight_clip\n" in "\n".join(rows(done)["a"].lines())
    assert "in place of MaxNorm(max_value=3, axis=0)" in str(done)
    assert all(str(kept.identifier) == CLIP for kept in constraints(model))
    qf.strip(model)
    assert all(now is before for now, before in zip(constraints(model), own, strict=True))
    assert model.get_layer("a").kernel_constraint is own[0]


def test_a_constraint_on_the_variable_alone_is_named_too():
    model = network()
    kernel = model.get_layer("b").kernel
    kernel.constraint = own = keras.constraints.NonNeg()
    report = qf.quantize(model, SIGN)
    assert rows(report)["b"].replaced == {"kernel_constraint": "NonNeg()"}
    qf.strip(model)
    assert kernel.constraint is own


def test_an_equal_constraint_is_not_replaced():
    model = network()
    settings = {
        "kernel_quantizer": "lsq",
        "kernel_constraint": keras.constraints.MaxNorm(3),
    }
    row = rows(qf.plan(model, settings))["a"]
    assert row.replaced == {}
    assert row.settings["kernel_constraint"] == "MaxNorm(max_value=3, axis=0)"


def test_quantizing_anew_says_what_is_replaced_by_what():
    model = network()
    qf.quantize(model, {**SIGN, "input_quantizer": "ste_sign"})
    assert not any(
        row.replaced for row in qf.plan(model, {**SIGN, "input_quantizer": "ste_sign"}).rows
    )
    rules = [("re:^a$", {"kernel_quantizer": "approx_sign"})]
    planned, done = qf.plan(model, rules), qf.quantize(model, rules)
    assert planned.rows == done.rows
    row = rows(done)["a"]
    sign = "binary:ste_sign(clip_value=1.0)"
    assert row.settings == {"kernel_quantizer": "binary:approx_sign"}
    assert row.replaced == {
        "kernel_quantizer": sign,
        "input_quantizer": sign,
        "kernel_constraint": CLIP,
    }
    # A table is without arguments that are defaults.
    assert "in place of binary:ste_sign " in str(done)
    assert "removed: input_quantizer=binary:ste_sign " in str(done)
    other = rows(done)["b"]
    assert other.reason == "no rule selects it; it keeps the quantizers that it has"
    assert set(model.get_layer("b").quantizers) == {"input", "kernel"}
    assert set(model.get_layer("a").quantizers) == {"kernel"}


def test_quantizer_in_a_graph_is_not_listed():
    x = keras.Input((4,))
    quantizer = qf.quantizers.get("lsq(bits=4)")
    model = keras.Model(x, keras.layers.Dense(2, name="head")(quantizer(x)))
    report = qf.plan(model, {"kernel_quantizer": "ste_sign"}, strict=True)
    assert [row.path for row in report.rows] == ["head"]


def test_the_numbers_that_stay_in_float_are_counted():
    model = network()
    expected = {"a": (12 + 3, 3), "norm": (4 * 3, 4 * 3), "b": (6, 0)}
    for report in (qf.plan(model, SIGN), qf.quantize(model, SIGN)):
        actual = {row.path: (row.numbers, row.in_float) for row in report.rows}
        assert actual == expected
        assert "15 of 33" in str(report)
    assert sum(numbers for numbers, _ in expected.values()) == model.count_params()
    kept = rows(qf.plan(model, [("re:^a$", None), (None, SIGN)]))
    assert (kept["a"].numbers, kept["a"].in_float) == (15, 3)  # it is quantized already
    assert rows(qf.plan(model, {"weight_quantizer": "lsq"}))["a"].in_float == 3
    assert "in float" not in str(qf.strip(model))


def test_a_layer_that_is_called_twice_counts_once_and_a_cell_counts():
    x = keras.Input((3, 4))
    shared = layers.Dense(4)
    model = keras.Model(x, layers.LSTM(2)(shared(shared(x))))
    counts = [row.numbers for row in qf.plan(model, {"kernel_quantizer": "lsq"}).rows]
    assert counts == [4 * 4 + 4, 4 * 8 + 2 * 8 + 8]


class Mixture(layers.Layer):
    def build(self, shape):
        self.router = self.add_weight(shape=(shape[-1], 2))
        self.shared = self.add_weight(shape=(shape[-1], shape[-1]))
        self._gain = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return x @ self.shared * self._gain


class Gain(layers.Layer):
    def build(self, shape):
        self._gain = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return x * self._gain


class Experts(layers.Layer):
    def build(self, shape):
        self.experts = [self.add_weight(shape=(shape[-1], 3)) for _ in range(2)]
        self.gain = self.add_weight(shape=(3,))

    def call(self, x):
        return sum(x @ expert for expert in self.experts) * self.gain


@pytest.mark.parametrize(
    ("cls", "line", "quantized"),
    [
        (Mixture, "(Mixture, router='router', shared='shared')", 4 * 2 + 4 * 4),
        (Gain, "(Gain, kernel='_gain')", 4),
    ],
)
def test_the_line_that_makes_a_layer_known_works_as_it_is_written(cls, line, quantized):
    model = keras.Sequential([keras.Input((4,)), cls(name="mine"), layers.Dense(2)])
    row = rows(qf.plan(model, {"kernel_quantizer": "lsq"}))["mine"]
    assert row.numbers == row.in_float == model.get_layer("mine").count_params()
    assert row.reason == f"its weights are not known; write qframe.register_layer{line}"
    try:
        exec(row.reason.partition("write ")[2], {"qframe": qf, cls.__name__: cls})
        row = rows(qf.plan(model, {"weight_quantizer": "lsq"}))["mine"]
    finally:
        registry.forget_local()
    assert row.numbers - row.in_float == quantized


def test_weights_in_a_list_are_named_by_their_list():
    model = keras.Sequential([keras.Input((4,)), Experts(name="mine"), layers.Dense(2)])
    row = rows(qf.plan(model, {"kernel_quantizer": "lsq"}))["mine"]
    assert (row.numbers, row.in_float) == (2 * 4 * 3 + 3, 2 * 4 * 3 + 3)
    assert "qframe.register_layer(Experts, kernel='w') (a weight in experts" in row.reason
