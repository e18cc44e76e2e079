"""`qframe.allocate`: bits within a budget, and recipes that give exactly these bits."""

import itertools

import keras
import numpy as np
import pytest

import qframe as qf
from in_few_bits import QUANTIZER, two_layers
from qframe.errors import ArgumentError, DataError

pytestmark = pytest.mark.ends
pytest.importorskip("scipy", reason="the extra ptq is not installed")

X = np.random.default_rng(1).normal(size=(64, 5)).astype("float32")
BITS = (2, 3, 4, 8)


def network():
    """Three layers of different sizes."""
    keras.utils.set_random_seed(0)
    image = [keras.layers.Reshape((5, 1, 1)), keras.layers.Conv2D(4, (3, 1), name="conv")]
    return keras.Sequential(
        [
            keras.Input((5,)),
            *image,
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu", name="wide"),
            keras.layers.Dense(3, name="head"),
        ],
        name="net",
    )


@pytest.fixture(scope="module")
def measured():
    model = network()
    return model, qf.sensitivity(model, X, BITS, "sqnr", quantizer=QUANTIZER, verbose=0)


def bits_of(model):
    paths = ("conv", "wide", "head")
    return {p: model.get_layer(p).kernel_quantizer.bits for p in paths}


def applied(recipe):
    """A new model with a recipe."""
    model = network()
    qf.quantize(model, recipe)
    return model


def size(model):
    return qf.models.profile(model).memory / 8


NUMBERS = {"conv": 12, "wide": 72, "head": 18}


def test_choice_within_a_size_is_the_best_and_has_that_size(measured):
    model, table = measured
    for budget in (280, 300, 330, 400):
        found = applied(qf.allocate(model, table, size=budget))
        assert size(found) <= budget
        best = min(
            (loss(table, bits), bits)
            for bits in itertools.product(BITS, repeat=3)
            if size_by_hand(bits) <= budget
        )
        assert tuple(bits_of(found).values()) == best[1]
        assert size(found) == size_by_hand(best[1])


def loss(table, bits):
    return sum(r.losses[b] for r, b in zip(table.measured, bits, strict=True))


def size_by_hand(bits):
    """The bytes of kernels, of a scale for each channel, and of biases in float32."""
    kernels = sum(b * n for b, n in zip(bits, NUMBERS.values(), strict=True))
    channels = 4 + 6 + 3
    return kernels / 8 + 4 * channels + 4 * channels


def test_average_bits_are_limited_exactly(measured):
    model, table = measured
    bits = bits_of(applied(qf.allocate(model, table, bits=3)))
    assert sum(bits[p] * n for p, n in NUMBERS.items()) <= 3 * sum(NUMBERS.values())
    uniform = qf.allocate(model, table, bits=3, among=3)
    assert bits_of(applied(uniform)) == dict.fromkeys(NUMBERS, 3)
    assert "3.00 bits a number" in uniform.summary


def test_bit_operations_are_products_times_both_bits(measured):
    model, table = measured
    # The convolution has three positions; the activations are in float, of 32 bits.
    products = {"conv": 3 * 12, "wide": 72, "head": 18}

    def by_hand(bits):
        return sum(32 * bits[p] * n for p, n in products.items())

    least = by_hand(dict.fromkeys(products, 2))
    with pytest.raises(ArgumentError, match=f"is {least} bit operations"):
        qf.allocate(model, table, bops=least - 1)
    found = bits_of(applied(qf.allocate(model, table, bops=2 * least)))
    assert least < by_hand(found) <= 2 * least


def test_cost_of_a_function_is_limited(measured):
    model, table = measured

    def slow(path, bits):
        return bits * (100 if path == "head" else 1)

    found = bits_of(applied(qf.allocate(model, table, cost=slow, budget=216)))
    assert found == {"conv": 8, "wide": 8, "head": 2}
    front = qf.allocate(model, table, cost=slow)
    assert front.points[0].cost == 204


def test_fixed_layers_groups_and_allowed_bits(measured):
    model, table = measured
    options = {"fixed": {qf.first: 8, "head": (3, 4)}, "bits": 4}
    found = bits_of(applied(qf.allocate(model, table, **options)))
    assert found["conv"] == 8
    assert found["head"] in (3, 4)
    together = qf.allocate(model, table, bits=4, groups=[["conv", "wide"]])
    found = bits_of(applied(together))
    assert found["conv"] == found["wide"]
    found = bits_of(applied(qf.allocate(model, table, bits=4, among=(2, 8))))
    assert set(found.values()) <= {2, 8}


def test_front_has_recipes_of_falling_losses(measured):
    model, table = measured
    front = qf.allocate(model, table)
    assert len(front.recipes) == len(front.points) > 3
    for point in (front.points[0], front.points[2], front.points[-1]):
        found = applied(point.recipe)
        assert bits_of(found) == dict(point.bits)
        assert size(found) == point.cost
        assert point.loss == pytest.approx(loss(table, point.bits.values()))
    assert "Bits a" in str(front)
    assert front.to_dict()["points"][0]["bits"] == dict(front.points[0].bits)


def test_recipe_goes_through_a_file_and_keeps_activations(measured, tmp_path):
    model = network()
    qf.quantize(model, {"input_quantizer": "integer(symmetric=False, gather='widest')"})
    qf.calibrate(model, X, verbose=0)
    table = qf.sensitivity(model, X, BITS, "sqnr", quantizer=QUANTIZER, verbose=0)
    recipe = qf.allocate(model, table, bits=4)
    recipe.save(tmp_path / "bits.toml")
    ranges = [float(model.get_layer(p).input_quantizer.gathered.high) for p in NUMBERS]
    report = qf.quantize(model, tmp_path / "bits.toml")
    assert len(report.quantized) == 3
    after = [float(model.get_layer(p).input_quantizer.gathered.high) for p in NUMBERS]
    assert after == ranges
    other = applied(recipe)
    assert bits_of(other) == bits_of(model)
    assert repr(other.get_layer("wide").input_quantizer) == repr(
        model.get_layer("wide").input_quantizer
    )


def test_other_settings_are_those_of_each_layer(measured):
    model, table = measured
    others = {"bias_quantizer": "integer_bias", "edge_quantizer": "integer(bits=8)"}
    found = network()
    qf.quantize(found, qf.allocate(model, table, bits=4, others=others))
    assert found.get_layer("head").bias_quantizer is not None
    assert sum(1 for layer in found.layers if getattr(layer, "output_quantizer", None)) > 0


def test_model_with_rounded_weights_is_counted_and_begins_again(measured):
    model, table = measured
    rounded = applied(qf.allocate(model, table, bits=2))
    qf.round_weights(rounded, X, "nearest", verbose=0)
    assert "correction" in str([v.path for v in rounded.variables])
    expected, actual = (qf.allocate(m, table, fixed={None: 4}) for m in (model, rounded))
    assert actual.points[0].cost == expected.points[0].cost
    qf.quantize(rounded, actual.points[0].recipe)
    assert size(rounded) == actual.points[0].cost
    assert "correction" not in str([v.path for v in rounded.variables])


def test_model_is_not_changed(measured):
    model, table = measured
    qf.allocate(model, table, bits=3)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 10}, r"the smallest that can be is 130 bytes"),
        ({"bits": 1}, "the smallest that can be is 2 bits a number"),
        ({"size": 400, "bits": 3}, "takes one budget, found size and bits"),
        ({"size": -1}, "must be a positive number"),
        ({"budget": 3}, "which is missing"),
        ({"cost": 3, "budget": 3}, "cost is a function"),
        ({"cost": len, "size": 3}, "goes with budget="),
        ({"cost": lambda p, b: None, "budget": 3}, "is to be a number"),
        ({"bits": 3, "among": (2, 5)}, "among has 5 bits, and the table has losses for"),
        ({"bits": 3, "among": "3"}, "bits are integers"),
        ({"bits": 3, "fixed": {"haed": 8}}, "Did you mean 'head'"),
        ({"bits": 3, "fixed": {"head": 5}}, "fixed.'head'. has 5 bits"),
        ({"bits": 3, "fixed": [8]}, "fixed has bits by layer"),
        ({"bits": 3, "groups": ["conv"]}, "groups are lists of layers"),
        (
            {"bits": 3, "groups": [["conv", "head"]], "fixed": {"conv": 8, "head": 2}},
            "no bits are allowed for all of them",
        ),
        ({"bits": 3, "others": "integer"}, "others are settings"),
        (
            {"bits": 3, "others": {"weight_quantizer": "lsq"}},
            "the bits of the table decide",
        ),
        (
            {"bits": 3, "others": {"kernel_quantizer": None}},
            "has 'kernel_quantizer', which",
        ),
        ({"bits": 1.9999999}, r"bits=1\.9999999 cannot be met"),
        ({"cost": lambda p, b: b, "budget": 5}, r"budget=5 cannot be met"),
    ],
)
def test_wrong_arguments_say_what_to_type(measured, arguments, message):
    model, table = measured
    if arguments == {"size": 10}:
        message = rf"is {int(size_by_hand((2, 2, 2)) + 0.9)} bytes"
    with pytest.raises(ArgumentError, match=message):
        qf.allocate(model, table, **arguments)


def test_smallest_that_is_named_can_be_met(measured):
    model, table = measured
    for argument in ("size", "bits", "bops"):
        with pytest.raises(ArgumentError, match="smallest") as error:
            qf.allocate(model, table, **{argument: 0.5})
        least = float(str(error.value).split("can be is ")[1].split()[0])
        found = bits_of(applied(qf.allocate(model, table, **{argument: least})))
        assert found == dict.fromkeys(NUMBERS, 2)


def test_table_of_another_model_is_an_error(measured):
    model, table = measured
    with pytest.raises(DataError, match="no such layer"):
        qf.allocate(two_layers(), table, bits=3)
    other = two_layers()
    table_of_other = qf.sensitivity(other, X, BITS, "sqnr", quantizer=QUANTIZER, verbose=0)
    wider = keras.Sequential(
        [keras.Input((5,)), *(keras.layers.Dense(7, name=n) for n in ("one", "two"))]
    )
    with pytest.raises(DataError, match="'two' has the weights"):
        qf.allocate(wider, table_of_other, bits=3)
    with pytest.raises(ArgumentError, match="takes the table"):
        qf.allocate(model, table.to_dict(), bits=3)


def test_losses_that_are_not_finite_are_not_chosen(measured):
    import attrs

    model, table = measured
    rows = [
        attrs.evolve(row, losses={**row.losses, 2: float("inf"), 3: float("inf")})
        for row in table.rows
    ]
    worse = attrs.evolve(table, rows=tuple(rows))
    assert set(bits_of(applied(qf.allocate(model, worse, bits=4))).values()) == {4}
    with pytest.raises(ArgumentError, match="losses for 4, 8"):
        qf.allocate(model, worse, bits=4, among=2)
    none = [attrs.evolve(r, losses=dict.fromkeys(BITS, float("nan"))) for r in table.rows]
    with pytest.raises(ArgumentError, match="of finite losses the table has none"):
        qf.allocate(model, attrs.evolve(table, rows=tuple(none)), bits=4)


def test_table_without_some_losses_is_shown_and_used(measured):
    model, table = measured
    content = table.to_dict()
    del content["rows"][0]["losses"]["3"]
    fewer = qf.passes.Sensitivity.from_dict(content)
    assert " - " in str(fewer).split("\n")[3]
    assert bits_of(applied(qf.allocate(model, fewer, bits=3)))["conv"] != 3


def test_table_with_a_layer_twice_is_an_error(measured):
    model, table = measured
    content = table.to_dict()
    content["rows"].append(content["rows"][0])
    with pytest.raises(DataError, match="has 'conv' twice"):
        qf.allocate(model, qf.passes.Sensitivity.from_dict(content), bits=3)
