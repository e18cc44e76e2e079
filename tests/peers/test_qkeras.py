"""The quantizers of QKeras compute what QKeras computes, except what docs/qkeras.md lists.

Each row of the table there is a difference that this file shows: either where numbers may
differ on the grids of arguments below, and do somewhere, or in a separate test.
"""

import functools
import itertools
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import qkeras
import tensorflow as tf

import qframe as qf
from qframe.errors import ArgumentError
from qframe.quantizers.differentiation import to_numpy, to_tensor, value_and_gradient

PAGE = Path(__file__).parents[2] / "docs" / "qkeras.md"
FLAGS = (False, True)
PO2 = {
    "bits": (2, 3, 4, 8),
    "max_value": (None, 0.5, 0.7, 1.0, 2.0, 3.0),
    "quadratic_approximation": FLAGS,
    "log2_rounding": ("rnd", "floor"),
}
ALPHAS = (None, 0.3, 1.0, 2.0, "auto", "auto_po2")
GRIDS = {
    "quantized_bits": [
        {
            "bits": (1, 2, 3, 4, 8, 16),
            "integer": (-1, 0, 2),
            "symmetric": (0, 1),
            "keep_negative": FLAGS,
            "alpha": (None, 0.3, 2.0),
        },
        {
            "bits": (1, 2, 3, 4, 8),
            "integer": (0, 2),
            "keep_negative": FLAGS,
            "alpha": ("auto", "auto_po2"),
        },
        {
            "bits": (3, 4),
            "alpha": ("auto_po2",),
            "min_po2_exponent": (-3, -1),
            "max_po2_exponent": (-1, 1),
        },
    ],
    "quantized_relu": [
        {
            "bits": (1, 2, 3, 4, 8),
            "integer": (-1, 0, 2),
            "use_sigmoid": (0, 1),
            "negative_slope": (0.0, 0.125, 0.5, 1.0),
        },
        {
            "bits": (3, 6),
            "integer": (0, 3),
            "negative_slope": (0.0, 0.25),
            "relu_upper_bound": (None, 0.5, 0.55, 6.0),
            "is_quantized_clip": FLAGS,
        },
    ],
    "quantized_tanh": [
        {"bits": (1, 2, 3, 4, 8), "symmetric": FLAGS, "use_real_tanh": FLAGS}
    ],
    "quantized_sigmoid": [
        {"bits": (1, 2, 3, 4, 8), "symmetric": FLAGS, "use_real_sigmoid": FLAGS}
    ],
    "quantized_po2": [PO2],
    "quantized_relu_po2": [{**PO2, "negative_slope": (0, 0.25, 1)}],
    "binary": [
        {"use_01": FLAGS, "alpha": ALPHAS},
        {
            "alpha": ("auto_po2",),
            "min_po2_exponent": (-3, -1),
            "max_po2_exponent": (-1, 1),
        },
    ],
    "ternary": [
        {"alpha": (None, 0.3, 2.0), "threshold": (None, 0, 0.5, 1.5)},
        {"alpha": ("auto", "auto_po2"), "number_of_unrolls": (1, 2, 5)},
    ],
    "stochastic_binary": [{"alpha": ALPHAS, "temperature": (6.0, 2.0)}],
    "stochastic_ternary": [{"alpha": ALPHAS, "use_real_sigmoid": FLAGS}],
}


def cases(word):
    for grid in GRIDS[word]:
        for given in itertools.product(*grid.values()):
            yield dict(zip(grid, given, strict=True))


RNG = np.random.default_rng(0)
SPECIAL = [0, 1e-9, 3e-8, 1e-6, 2.0**-13, 3, 5.7, 8, 100, 2.0**15, 1e10, np.inf, np.nan]
NUMBERS = np.concatenate(
    [
        np.linspace(-2.5, 2.5, 161),  # all ties of grids down to 1/16
        RNG.normal(size=100) * 2,
        *(np.float64(SPECIAL) * sign for sign in (1, -1)),
    ]
).astype("float32")
TENSORS = [
    RNG.normal(size=(7, 3)).astype("float32"),
    (RNG.normal(size=(3, 3, 2, 5)) * 0.05).astype("float32"),
    np.zeros((4, 2), "float32"),
    np.float32([[1, -1, 0.5], [0.25, 0.5, 3]]),
    RNG.normal(size=9).astype("float32"),
]


def is_automatic(arguments):
    return isinstance(arguments.get("alpha"), str)


def ours(word, arguments):
    """A quantizer of qframe; some bare names are namespaces too."""
    return type(qf.quantizers.get(f"fixed:{word}"))(**arguments)


def computed(word, arguments, x):
    """The value and gradient of QKeras; or the error."""
    tensor = tf.constant(x)
    try:
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = getattr(qkeras, word)(**arguments)(tensor)
        return value.numpy(), tape.gradient(value, tensor).numpy()
    except (AssertionError, TypeError, ValueError, tf.errors.OpError) as error:
        return error


def recomputed(quantizer, x):
    """The value and gradient of qframe."""
    call = quantizer
    if quantizer.traits.channelwise and x.ndim == 1:
        # A vector is a bias, which has no output channels.
        call = functools.partial(quantizer, channel_axis=None)
    return value_and_gradient(call, x, np.ones_like(x))


def disagreement(result, expected, x):
    """A mask of the differences of arrays beyond rounding in float32."""
    with np.errstate(invalid="ignore"):
        allowed = 5e-7 * np.abs(x) + 3e-6 * np.abs(expected)
        near = np.abs(result - expected) <= allowed
    return ~(near | (result == expected) | (np.isnan(result) & np.isnan(expected)))


# The rows of the table, each with what shows it.
# Expected differences: of quantizer, arguments and x a mask for values or (with "gradient")
# for gradients.
VALUES = {}
GRADIENTS = {}
# The errors of qframe, and those of QKeras, by quantizer and arguments.
REFUSED = {}
BROKEN = {}
# Separate tests.
SHOWN = {}


def row(kind, title):
    def add(function):
        assert title not in {*VALUES, *GRADIENTS, *REFUSED, *BROKEN, *SHOWN}
        kind[title] = function
        return function

    return add


@row(VALUES, "large numbers and infinity")
def _(word, arguments, x):
    return (np.abs(x) >= 100) & (word not in ("quantized_tanh", "quantized_sigmoid"))


@row(VALUES, "`quantized_relu`: NaN with `relu_upper_bound`")
def _(word, arguments, x):
    return np.isnan(x) & (arguments.get("relu_upper_bound") is not None)


@row(VALUES, "a vector with an automatic `alpha`")
def _(word, arguments, x):
    return np.full(x.shape, x.ndim == 1 and is_automatic(arguments))


def magnitudes(word, arguments, x):
    """Of which the powers of two are: NaN for other quantizers."""
    if "po2" not in word:
        return np.full(x.shape, np.nan)
    slope = arguments.get("negative_slope", 1)
    return np.where(x < 0, -x * slope if slope else 0, x)


@row(VALUES, "powers of two: magnitudes below 1e-7")
def _(word, arguments, x):
    return magnitudes(word, arguments, x) < 1e-7


@row(VALUES, "powers of two: a `max_value` between two of them")
def _(word, arguments, x):
    if arguments.get("max_value") is None:
        return np.zeros(x.shape, bool)
    exponents = ours(word, arguments).exponents
    between = np.log2(arguments["max_value"]) % exponents.step != 0
    return between & (magnitudes(word, arguments, x) >= 2.0 ** exponents[-1])


@row(VALUES, "powers of two: a `max_value` up to 1")
def _(word, arguments, x):
    if (arguments.get("max_value") or 2) > 1:
        return np.zeros(x.shape, bool)
    return magnitudes(word, arguments, x) <= 2.0 ** ours(word, arguments).exponents[0]


@row(VALUES, 'powers of two: `log2_rounding="floor"` of a power of two')
def _(word, arguments, x):
    floor = arguments.get("log2_rounding") == "floor"
    return floor & (np.frexp(magnitudes(word, arguments, x))[0] == 0.5)


@row(VALUES, "powers of two: halfway with `quadratic_approximation`")
def _(word, arguments, x):
    mantissa, exponent = np.frexp(magnitudes(word, arguments, x))
    quadratic = arguments.get("quadratic_approximation", False)
    return quadratic & (mantissa == 0.5) & (exponent % 2 == 0)


@row(GRADIENTS, "`stochastic_binary`, `stochastic_ternary`: the gradient in inference")
def _(word, arguments, x):
    stochastic = word in ("stochastic_binary", "stochastic_ternary")
    return np.full(x.shape, stochastic and arguments["alpha"] is None)


@row(REFUSED, "`quantized_bits`: an automatic `alpha` with one bit, or without a sign")
def _(word, arguments):
    if word != "quantized_bits" or not is_automatic(arguments):
        return False
    return arguments["bits"] == 1 or not arguments.get("keep_negative", True)


def values_of_one(arguments):
    return 2.0 ** (arguments["bits"] - (arguments.get("negative_slope", 0) != 0))


@row(REFUSED, "`quantized_relu`: a `negative_slope` that leaves less than a step")
def _(word, arguments):
    slope = arguments.get("negative_slope", 0)
    return word == "quantized_relu" and 0 < slope * values_of_one(arguments) < 1


@row(REFUSED, "`quantized_relu`: `use_sigmoid` with `negative_slope`")
def _(word, arguments):
    return arguments.get("use_sigmoid", 0) and arguments["negative_slope"] != 0


@row(REFUSED, "`quantized_relu`: `relu_upper_bound` with `is_quantized_clip`")
def _(word, arguments):
    return arguments.get("relu_upper_bound") and arguments["is_quantized_clip"]


@row(REFUSED, "`quantized_relu`: a `relu_upper_bound` between two steps")
def _(word, arguments):
    if not arguments.get("relu_upper_bound"):
        return False
    step = 2.0 ** arguments["integer"] / values_of_one(arguments)
    return arguments["relu_upper_bound"] % step != 0


@row(REFUSED, "`quantized_tanh`, `quantized_sigmoid`: `symmetric` with one bit")
def _(word, arguments):
    squashed = word in ("quantized_tanh", "quantized_sigmoid")
    return squashed and arguments["symmetric"] and arguments["bits"] == 1


@row(BROKEN, "`quantized_relu`: a negative `integer`")
def _(word, arguments):
    return word == "quantized_relu" and arguments["integer"] < 0


@pytest.fixture(scope="module")
def seen():
    """The rows that made a difference."""
    return set()


@pytest.mark.parametrize("word", GRIDS)
def test_numbers_are_those_of_qkeras(word, seen):
    count = 0
    for arguments in cases(word):
        refused = {title for title, holds in REFUSED.items() if holds(word, arguments)}
        if refused:
            with pytest.raises(ArgumentError):
                ours(word, arguments)
            seen |= refused
            continue
        quantizer = ours(word, arguments)
        for x in TENSORS if is_automatic(arguments) else [NUMBERS]:
            expected = computed(word, arguments, x)
            if isinstance(expected, Exception):
                broken = {t for t, holds in BROKEN.items() if holds(word, arguments)}
                assert broken, f"{word}({arguments}): {expected}"
                seen |= broken
                continue
            actual = recomputed(quantizer, x)
            for rows, new, old in zip((VALUES, GRADIENTS), actual, expected, strict=True):
                apart = disagreement(new, old, x)
                allowed = np.zeros(x.shape, bool)
                for title, mask in rows.items():
                    where = mask(word, arguments, x)
                    allowed |= where
                    if (apart & where).any():
                        seen.add(title)
                wrong = apart & ~allowed
                assert not wrong.any(), (
                    f"{word}({arguments}) at {x[wrong][:5]}: {new[wrong][:5]}, "
                    f"QKeras {old[wrong][:5]}"
                )
                count += x.size
    assert count > 1000


def test_every_row_of_the_grids_made_a_difference(seen):
    assert seen == {*VALUES, *GRADIENTS, *REFUSED, *BROKEN}


def test_the_table_lists_these_differences():
    _, section = PAGE.read_text("utf-8").split("## Intended differences of numbers", 1)
    listed = re.findall(r"^\| ([^|]+?) \|", section.split("\n## ")[0], re.MULTILINE)
    assert listed[0] == "Where"
    titles = [*VALUES, *GRADIENTS, *REFUSED, *BROKEN, *SHOWN]
    assert sorted(listed[2:]) == sorted(titles)


# Rows about other things than a grid of numbers.

X = np.float32([[-0.7, 0.3], [0.1, 0.6], [0.26, -0.9]])
MANY = np.full((10_000, 1), 0.3, "float32")


def drawn(quantizer, x=X):
    return to_numpy(quantizer(to_tensor(x), training=True))


def values(quantizer, x=X, **kwargs):
    return quantizer(tf.constant(x), **kwargs).numpy()


@row(SHOWN, "`use_stochastic_rounding` of other quantizers than `binary` and powers of two")
def test_stochastic_rounding_draws():
    for word, arguments in {
        "quantized_bits": {"bits": 3},
        "quantized_relu": {"bits": 3},
        "quantized_tanh": {"bits": 3},
        "quantized_sigmoid": {"bits": 3},
        "ternary": {"alpha": "auto"},
    }.items():
        draws = {**arguments, "use_stochastic_rounding": True}
        old = [values(getattr(qkeras, word)(**given)) for given in (arguments, draws)]
        np.testing.assert_array_equal(*old)
        quantizer, x = ours(word, draws), np.tile(X, (50, 1))
        assert (drawn(quantizer, x) != drawn(quantizer, x)).any()


@row(SHOWN, "`binary(use_stochastic_rounding=True)`")
def test_binary_draws():
    arguments = {"use_stochastic_rounding": True}
    assert isinstance(computed("binary", arguments, X), tf.errors.InvalidArgumentError)
    assert np.unique(drawn(ours("binary", arguments), 0 * MANY)).tolist() == [-1, 1]


@row(SHOWN, "`stochastic_ternary` in training without an automatic `alpha`")
def test_stochastic_ternary_draws():
    for alpha in (None, 2.0):
        with pytest.raises(AssertionError):
            values(qkeras.stochastic_ternary(alpha), training=True)
        actual = np.unique(drawn(ours("stochastic_ternary", {"alpha": alpha}), MANY))
        np.testing.assert_array_equal(actual, np.array([-1, 0, 1]) * (alpha or 1))


@row(SHOWN, "`bernoulli` in inference")
def test_bernoulli_in_inference():
    assert len(np.unique(values(qkeras.bernoulli(), MANY))) == 2
    assert np.unique(to_numpy(ours("bernoulli", {})(MANY))).tolist() == [1]


@row(SHOWN, "draws in a layer")
def test_draws_in_a_layer():
    x = np.eye(8, dtype="float32")
    old = qkeras.QDense(8, kernel_quantizer=qkeras.stochastic_binary())
    new = qf.layers.QuantDense(
        8, kernel_quantizer="stochastic_binary", kernel_constraint="weight_clip"
    )
    for layer, differs in ((old, False), (new, True)):
        first, second = (to_numpy(layer(x, training=True)) for _ in range(2))
        assert (first != second).any() == differs


@row(SHOWN, "draws in a compiled function")
def test_draws_in_a_compiled_function():
    for word in ("stochastic_binary", "stochastic_ternary"):
        arguments = {"alpha": "auto"}
        x = tf.constant(np.random.default_rng(0).normal(size=(50, 3)), "float32")
        for make, differs in ((getattr(qkeras, word), False), (None, True)):
            quantizer = make(**arguments) if make else ours(word, arguments)
            compiled = tf.function(functools.partial(quantizer, training=True))
            assert (compiled(x) != compiled(x)).numpy().any() == differs


@row(SHOWN, "powers of two: `quadratic_approximation` with `use_stochastic_rounding`")
def test_quadratic_draws_are_fair():
    arguments = {"use_stochastic_rounding": True, "quadratic_approximation": True}
    for word in ("quantized_po2", "quantized_relu_po2"):
        old = values(getattr(qkeras, word)(**arguments), 10 * MANY, training=True)
        new = drawn(ours(word, arguments), 10 * MANY)
        assert set(np.unique(new)) == set(np.unique(old)) == {1, 4}
        error = new.std() / np.sqrt(new.size)
        assert abs(new.mean() - 3) < 4 * error
        assert old.mean() - 3 > 4 * error


@row(SHOWN, 'powers of two: `log2_rounding="floor"` with `use_stochastic_rounding`')
def test_floor_with_draws():
    arguments = {"use_stochastic_rounding": True, "log2_rounding": "floor"}
    for word in ("quantized_po2", "quantized_relu_po2"):
        actual = values(getattr(qkeras, word)(**arguments), 10 * MANY, training=True)
        assert np.unique(actual).tolist() == [2]
        with pytest.raises(ArgumentError, match="floor"):
            ours(word, arguments)


@row(SHOWN, "`quantized_relu_po2` with a slope: its bits")
def test_a_slope_needs_a_bit():
    arguments = {"bits": 2, "negative_slope": 1}
    x = NUMBERS[np.abs(NUMBERS) < 100]
    assert len(np.unique(values(qkeras.quantized_relu_po2(**arguments), x))) == 8
    assert ours("quantized_relu_po2", arguments).precision == 3


@row(SHOWN, "`min_po2_exponent` without `max_po2_exponent`, or the other way round")
def test_one_bound_of_the_exponent():
    for word, name in itertools.product(
        ("quantized_bits", "binary"), ("min_po2_exponent", "max_po2_exponent")
    ):
        arguments = {"alpha": "auto_po2", name: -2}
        assert isinstance(computed(word, arguments, X), ValueError)
        assert np.isfinite(recomputed(ours(word, arguments), X)[0]).all()


@row(SHOWN, "16-bit floats")
def test_16_bit_floats():
    for dtype in ("float16", "bfloat16"):
        x = tf.cast(X, dtype)
        assert qkeras.quantized_bits(4)(x).dtype == "float32"
        assert ours("quantized_bits", {"bits": 4})(x).dtype == dtype


@row(SHOWN, "configs")
def test_configs():
    for word, arguments in [
        ("quantized_bits", {"alpha": "auto_po2", "max_po2_exponent": -1}),
        ("quantized_relu", {"is_quantized_clip": False}),
        ("binary", {"alpha": "auto_po2", "max_po2_exponent": -1}),
        ("bernoulli", {"temperature": 2.0}),
        ("bernoulli", {"use_real_sigmoid": False}),
    ]:
        cls = getattr(qkeras, word)
        again = cls.from_config(cls(**arguments).get_config())
        name = [*arguments][-1]
        assert getattr(again, name) != arguments[name]
        quantizer = ours(word, arguments)
        config = keras.saving.serialize_keras_object(quantizer)
        again = keras.saving.deserialize_keras_object(config)
        assert again.parameters == quantizer.parameters


@row(SHOWN, "strings")
def test_strings():
    for word, arguments in [
        ("quantized_tanh", {"symmetric": True}),
        ("quantized_sigmoid", {"use_real_sigmoid": True}),
        ("quantized_po2", {"max_value": 0.5}),
        ("quantized_relu", {"is_quantized_clip": False}),
    ]:
        again = qkeras.get_quantizer(str(getattr(qkeras, word)(**arguments)))
        ((name, value),) = arguments.items()
        assert getattr(again, name) != value
        quantizer = ours(word, arguments)
        assert qf.quantizers.get(repr(quantizer)).parameters == quantizer.parameters


@row(SHOWN, "more than 24 bits, or more than 8 for a power of two")
def test_many_bits():
    x = np.float32([1.5])
    assert values(qkeras.quantized_bits(32), x) == 1  # its largest value is below 1
    assert not np.isfinite(values(qkeras.quantized_po2(12), np.float32([3e38])))
    for word, bits in (("quantized_bits", 25), ("quantized_po2", 9)):
        with pytest.raises(ArgumentError, match="bits"):
            ours(word, {"bits": bits})


@row(SHOWN, "arguments that are refused")
def test_refused_arguments():
    common = {"qnoise_factor": 0.5, "var_name": "v", "use_ste": False}
    common["use_variables"] = True
    scales = {"scale_axis": 0, "elements_per_scale": 2}
    for word, refused in {
        "quantized_bits": {**common, **scales, "post_training_scale": np.ones(2)},
        "quantized_relu": common,
        "quantized_po2": common,
        "quantized_relu_po2": common,
        "binary": {**scales, "training": True},
    }.items():
        alpha = {"alpha": "auto_po2"} if word in ("quantized_bits", "binary") else {}
        for name, value in refused.items():
            getattr(qkeras, word)(**alpha, **{name: value})
            with pytest.raises(ArgumentError, match=name):
                ours(word, {**alpha, name: value})
