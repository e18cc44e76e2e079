"""Regular expressions without backtracking, against Python's own."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qframe.errors import ArgumentError
from qframe.recipes import patterns

pytestmark = pytest.mark.pure

TEXTS = st.text(st.sampled_from("ab/_1 é\n]Aſß"), max_size=8)
ATOMS = st.sampled_from(
    [
        *("a", "b", "/", "_", "1", "é", ".", r"\d", r"\w", r"\W", r"\s", r"\.", r"\/"),
        *("[ab]", "[^a]", "[]]", "[^]a]", r"[\]b]", r"[\w/]", "[a-c1]", r"\x61", r"\u0062"),
        *("^", "$", r"\b", r"\B", r"\A", r"\Z", "{", "}", "a{", "{,b", r"\N{DIGIT ONE}"),
    ]
)
QUANTIFIERS = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{,1}", "{1,}", "{0}"])
REGEXES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join),
        st.builds("({})".format, inner),
        st.builds("(?:{}){}{}".format, inner, QUANTIFIERS, st.sampled_from(["", "?"])),
    ),
    max_leaves=8,
)


def is_regex(text):
    try:
        re.compile(text)
    except re.error:
        return False
    return True


@given(st.sampled_from(["", "(?i)", "(?ms)"]), REGEXES, TEXTS)
def test_found_in_any_text_agrees_with_re(flags, regex, text):
    regex = flags + regex
    if is_regex(regex):
        assert patterns.parse(regex).matches(text) == bool(re.search(regex, text))


TOKENS = st.sampled_from(
    [
        *("a", "(", ")", "(?:", "(?P<n>", "(?=", "(?!", "(?<=", "(?P=n)", "(?>", "(?i)"),
        *("(?i:", "(?#", "(?(1)", "[", "]", "[^", "-", "|", "*", "+", "?", "{2}", "{9999}"),
        *("{99999999999}", "\\1", "\\0", "\\", "\\b", "^", "$", "\\x", "\\N{", "é", "\n"),
    ]
)


@given(
    st.one_of(
        st.text(max_size=20),
        st.lists(TOKENS, max_size=8).map("".join),
        st.tuples(TOKENS, st.integers(1, 9000)).map(lambda pair: pair[0] * pair[1]),
    )
)
@example("(" * 4000 + ")" * 4000)
@example("(?:a{1000}){1000}")
@example("(" * 20 + "a" + "{9})" * 20)
@example("a*" * 4000)
def test_parse_of_any_text_is_a_bounded_pattern_or_an_error(text):
    try:
        actual = patterns.parse(text)
    except ArgumentError:
        return
    assert len(actual.program) <= 10_000
    assert is_regex(text)


class Reading(str):
    """A text that counts how often its characters are read."""

    def __new__(cls, text):
        made = super().__new__(cls, text)
        made.reads = 0
        return made

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize(
    "regex",
    ["(a+)+$", "^(a|a)*$", "^(a*)*(a*)*$", "^a*a*a*a*a*$", "a?" * 30 + "a" * 30 + "$"],
)
def test_found_in_reads_each_character_at_most_once_for_each_step(regex):
    text = Reading("a" * 200 + "!")
    actual = patterns.parse(regex)
    assert not actual.matches(text)
    assert text.reads <= len(text) * len(actual.program)


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(", r"is not a regex: missing \)"),
        (r"(a)\1", "has .1, which refers to a group; write its text again"),
        ("(?P<n>a)(?P=n)", "refers to a group"),
        ("a(?=b)", "looks ahead; write one rule for each case"),
        ("a(?!b)", "write a rule for what to leave out before this one"),
        ("(?<!b)a", "looks back"),
        ("(?i:a)", r"write \(\?i\) at its beginning"),
        ("(?#a)", "leave it out"),
        ("(a)?(?(1)b|c)", "write one rule for each case"),
        ("a" * 8193, "has 8193 characters, and a regex at most 8192. Write several rules"),
        ("a{99999999999}", "is too large for a regex"),
        ("(a{200}){200}", "repeats too much. Write . or ., or fewer"),
        ("(" * 21 + ")" * 21, "nests more than 20 groups"),
        ("(" * 4000 + ")" * 4000, "is too large for a regex|nests more than 20"),
    ],
    ids=range(14),
)
def test_parse_of_what_takes_backtracking_or_is_large_says_what_to_write(regex, message):
    with pytest.raises(ArgumentError, match=message):
        patterns.parse(regex)


@pytest.mark.filterwarnings("error")
def test_parse_of_a_set_that_may_change_its_meaning_warns_nobody():
    assert patterns.parse("[[a]").matches("[")


@pytest.mark.parametrize("regex", ["a*+b", "(?>a)b"])
def test_parse_of_possessive_parts_is_an_error_on_each_python(regex):
    with pytest.raises(ArgumentError, match=r"possessive|atomic|is not a regex"):
        patterns.parse(regex)
