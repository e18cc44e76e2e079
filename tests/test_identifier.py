"""Identifiers: the grammar, its inverse, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qframe.errors import IdentifierError
from qframe.identifier import Identifier

pytestmark = pytest.mark.pure

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in {"None", "True", "False"} and not _is_keyword(name)
)
LITERALS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=5,
)


def _is_keyword(name):
    import keyword

    return keyword.iskeyword(name)


@given(
    st.builds(
        Identifier,
        NAMES,
        st.one_of(st.none(), st.from_regex(r"[A-Za-z_][\w.-]{0,6}", fullmatch=True)),
        st.dictionaries(NAMES, LITERALS, max_size=3),
    )
)
def test_parse_is_the_inverse_of_str(identifier):
    assert Identifier.parse(str(identifier)) == identifier


@pytest.mark.parametrize(
    ("text", "name", "namespace", "arguments"),
    [
        ("ste_sign", "ste_sign", None, {}),
        (" binary : ste_sign ", "ste_sign", "binary", {}),
        ("my-plugin.v2:x()", "x", "my-plugin.v2", {}),
        ("q(a=-1.5, b='x', c=None)", "q", None, {"a": -1.5, "b": "x", "c": None}),
        ("q(a=(1, 2), b=[True])", "q", None, {"a": (1, 2), "b": [True]}),
        ("q(a=1e999)", "q", None, {"a": math.inf}),
    ],
)
def test_parse(text, name, namespace, arguments):
    assert Identifier.parse(text) == Identifier(name, namespace, arguments)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with a name"),
        ("1bit", "does not begin with a name"),
        ("ste_sign(", "follows the name"),
        ("ste_sign(1.0)", "'1.0' has no key"),
        ("ste_sign(a=1)(b=2)", "not one argument list"),
        ("ste_sign(a=__import__('os'))", "is not a literal"),
        ("ste_sign(a=b)", "is not a literal"),
        ("ste_sign(**{'a': 1})", r"\*\* is not allowed"),
        ("ste_sign(a=1, a=2)", "given twice|repeated"),
        ("ste_sign extra", "follows the name"),
        ("a:b:c", "follows the name"),
        ("ste_sign(a=)", "not an argument list"),
        ("q(" + "(" * 5000 + ")" * 5000 + ")", "not an argument list"),
    ],
)
def test_malformed(text, reason):
    with pytest.raises(IdentifierError, match=reason) as error:
        Identifier.parse(text)
    assert "binary:ste_sign(clip_value=1.0)" in str(error.value)


@pytest.mark.parametrize("value", [math.nan, object(), {1, 2}, 1j, b"x"])
def test_values_without_a_literal_form(value):
    with pytest.raises(IdentifierError, match="argument 'a' holds"):
        str(Identifier("q", arguments={"a": value}))


def test_numpy_scalars_print_as_numbers():
    import numpy as np

    assert str(Identifier("q", arguments={"a": np.float64(0.5)})) == "q(a=0.5)"


def test_arguments_by_order_where_they_are_asked_for():
    found = Identifier.parse("quantized_bits(4, 0, True)", positional=True)
    assert found.positional == (4, 0, True)
    assert str(found) == "quantized_bits(4, 0, True)"
    with pytest.raises(IdentifierError, match="mixes arguments with and without a key"):
        Identifier.parse("quantized_bits(4, integer=0)", positional=True)
    with pytest.raises(IdentifierError, match=r"'f\(x\)' of an argument is not a literal"):
        Identifier.parse("quantized_bits(f(x))", positional=True)


@pytest.mark.parametrize(
    "value", ["{[]: 1}", "{[1]}", "-" * 5_000 + "1", "[" * 5_000, "f(1)"], ids=range(5)
)
def test_parse_of_what_python_cannot_evaluate_is_an_error_of_identifiers(value):
    with pytest.raises(IdentifierError):
        Identifier.parse(f"a(b={value})")
