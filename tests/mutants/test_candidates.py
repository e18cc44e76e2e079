"""Mutants of short sources."""

import pytest

from mutants.candidates import mutants

CASES = {
    "x = a < b": {"x = a <= b"},
    "x = a is not None": {"x = a is None"},
    "x = a not  in b": {"x = a in b"},
    "x = (a) == (b) != c": {"x = (a) != (b) != c", "x = (a) == (b) == c"},
    "x = é + f('ü', y) - z": {"x = é - f('ü', y) - z", "x = é + f('ü', y) + z"},
    "x += y // z": {"x -= y // z", "x += y * z"},
    "x = -y": {"x = y"},
    "x = -1": {"x = -2"},
    "x = 2.5": {"x = 3.5"},
    "x = True": {"x = False"},
    "x = not (a or b)": {"x = (a or b)", "x = not (a and b)"},
    "x = y if z else w": {"x = y if True else w", "x = y if False else w"},
    "x = [y for y in z if y]": {
        "x = [y for y in z if True]",
        "x = [y for y in z if False]",
    },
    "f(x, y=z, w=v)": {"f(x, w=v)", "f(x, y=z)"},
    "f(y=(z))": {"f()"},
    "def f(x: int = 1) -> g[2]: return x": {
        "def f(x: int = 2) -> g[2]: return x",
        "def f(x: int = 1) -> g[2]: return None",
    },
}
UNTOUCHED = [
    '"""Text of 1 module."""',
    "__all__ = ['x'] + y",
    "__version__ = x + 1",
    "x: a[1] | None",
    "raise ValueError(f'{1 + 2}', x + 1, y=z)",
    "warnings.warn('x', stacklevel=2)",
    "x = f'{1 + y}' + z % 'x'",
    "zip(x, y, strict=True)",
    "x = cast('a | b', y)",
    "x = None",
    "def f(): return None",
    "if TYPE_CHECKING:\n    x = 1",
    'if __name__ == "__main__":\n    f(1)',
    "if (y :=\n        z): pass",
]
pytestmark = pytest.mark.long


@pytest.mark.parametrize("source", CASES)
def test_mutants_of_a_line_are_these(source):
    assert {mutant.applied(source) for mutant in mutants("x.py", source)} == CASES[source]


@pytest.mark.parametrize("source", UNTOUCHED)
def test_mutants_of_unobserved_code_are_none(source):
    assert mutants("x.py", source) == []


def test_name_of_equal_lines_is_unique_and_has_no_number():
    source = "x = 1\ny = 2\nx = 1\n"
    actual = mutants("a/b.py", source)
    assert [mutant.name for mutant in actual] == [
        'a/b.py constant: "x = 1" -> "x = 2"',
        'a/b.py constant: "y = 2" -> "y = 3"',
        'a/b.py constant: "x = 1" -> "x = 2" (2)',
    ]
    assert actual[2].diff == 'a/b.py:3 constant: "x = 1" -> "x = 2"'
    assert actual[2].applied(source) == "x = 1\ny = 2\nx = 2\n"


def test_applied_to_another_source_is_refused():
    (mutant,) = mutants("x.py", "x = 1")
    with pytest.raises(ValueError, match="is not the file of"):
        mutant.applied("x = 3")
