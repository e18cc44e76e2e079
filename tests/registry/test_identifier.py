"""Identifiers: the grammar, its inverse, and what is refused."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identifier_parts import LITERALS, NAMES
from qframe.errors import IdentifierError
from qframe.registry.identifier import Identifier

pytestmark = pytest.mark.pure


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
        ("q(" + "(" * 2000 + ")" * 2000 + ")", "not an argument list"),
    ],
)
def test_malformed(text, reason):
    with pytest.raises(IdentifierError, match=reason) as error:
        Identifier.parse(text)
    assert "binary:ste_sign(clip_value=1.0)" in str(error.value)


@pytest.mark.parametrize(
    "value",
    [math.nan, object(), {1, 2}, 1j, b"x", 10**400, 1 << 20_000, [[10**400]]],
    ids=lambda value: type(value).__name__,
)
def test_values_without_a_literal_form(value):
    with pytest.raises(IdentifierError, match="argument 'a' holds"):
        str(Identifier("q", arguments={"a": value}))


def test_numpy_scalars_print_as_numbers():
    import numpy as np

    assert str(Identifier("q", arguments={"a": np.float64(0.5)})) == "q(a=0.5)"


def test_arguments_by_order_where_they_are_asked_for():
    actual = Identifier.parse("quantized_bits(4, 0, True)", positional=True)
    assert actual.positional == (4, 0, True)
    assert str(actual) == "quantized_bits(4, 0, True)"
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


# The parts of the grammar, and what resembles them.
TOKENS = st.sampled_from(
    [
        *("q", "binary", ":", "(", ")", "[", "]", "{", "}", ",", "=", "a=", "b=", " "),
        *("-", "+", "1", "0", ".5", "1e999", "0x", "j", "_", "'", '"', "b'x'", "\\", "#"),
        *("None", "True", "*", "**", "a", "lambda", "if", "for a in a", ":=", "...", "\n"),
        *("\r", "\x0c", "\x00", "\ud800", "é", "²", "ﬁ=", "f'{a}'", "nan", "@", ";"),
    ]
)


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("positional", [False, True])
@given(
    st.one_of(
        st.text(),
        st.lists(TOKENS, max_size=12).map("".join),
        st.lists(TOKENS, max_size=9).map(lambda tokens: f"q(a={''.join(tokens)})"),
        st.tuples(TOKENS, st.integers(1, 6000)).map(lambda pair: pair[0] * pair[1]),
        st.tuples(TOKENS, st.integers(1, 6000)).map(lambda p: f"q(a={p[0] * p[1]})"),
    )
)
def test_parse_of_any_text_is_an_identifier_that_can_be_written_or_an_error(
    positional, text
):
    actual = None
    with contextlib.suppress(IdentifierError):
        actual = Identifier.parse(text, positional=positional)
    if actual is not None:
        assert Identifier.parse(str(actual), positional=positional) == actual


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # A bound on the length bounds the time, whatever the text is.
        (" " * 30_000, "has 30000 characters, and at most 4096 are read"),
        ("a" * 4097, "has 4097 characters"),
        ("q(a=" + "-" * 500 + "1)", "is not a literal"),
        ("q(a=1" + "0" * 400 + ")", "not a literal .a number that fits a float"),
        ("q(a=0x1" + "0" * 4000 + ")", "is not a literal"),
        ("q(a=" + "[" * 60 + "]" * 60 + ")", "is not a literal"),
        ("q({[]:1})", "is not a literal"),
        ("q(a={**{}})", "is not a literal"),
        ("q(a=b'x')", "is not a literal"),
        ("q(a={1})", "is not a literal"),
        ("q(a=...)", "is not a literal"),
        ("q(a=1 + 2j)", "is not a literal"),
        ("q(a=-True)", "is not a literal"),
        ("q(a=1) # a comment)", "is not one argument list"),
        ("binary:", "no name follows binary:"),
        (":q", "does not begin with a name"),
        (b"q", "is of type bytes, not text"),
        (None, "is of type NoneType, not text"),
    ],
    ids=range(18),
)
def test_parse_of_hostile_text_is_an_error_of_identifiers(text, reason):
    with pytest.raises(IdentifierError, match=reason):
        Identifier.parse(text, positional=True)


def test_parse_of_the_longest_text_is_read():
    name = "a" * 4096
    assert Identifier.parse(name).name == name


def test_str_of_what_could_not_be_read_again_is_an_error():
    endless = []
    endless.append(endless)
    for value in ("x" * 4096, endless):
        with pytest.raises(IdentifierError, match=r"at most 4096|no literal form"):
            str(Identifier("q", arguments={"a": value}))
