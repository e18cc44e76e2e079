"""The sample of mutants: repeatable and stratified, with tests for each mutant."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from mutants.areas import TABLE, area_of
from mutants.sampling import group, sample, sources

ROOT = Path(__file__).parents[2]
FILES = sources(ROOT)
COUNT = 96
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def drawn():
    return sample(FILES, 0, COUNT)


def test_sample_of_one_seed_is_the_same(drawn):
    assert len({mutant.name for mutant in drawn}) == COUNT
    assert sample(dict(reversed(FILES.items())), 0, COUNT) == drawn
    other = {mutant.name for mutant in sample(FILES, 1, COUNT)}
    assert len(other & {mutant.name for mutant in drawn}) < COUNT // 2


def test_sample_of_a_file_with_another_line_has_the_same_names(drawn):
    moved = {**FILES, drawn[0].path: f"# A comment.\n{FILES[drawn[0].path]}"}
    names = {mutant.name for mutant in drawn}
    assert {mutant.name for mutant in sample(moved, 0, COUNT)} == names


def test_sample_has_a_share_of_every_group(drawn):
    lines = Counter()
    for path, source in FILES.items():
        lines[group(path)] += len(source.splitlines())
    counts = Counter(group(mutant.path) for mutant in drawn)
    assert counts.keys() == lines.keys()
    for name, count in counts.items():
        exact = COUNT * lines[name] / lines.total()
        assert count == 1 or abs(count - exact) < 1, name


def test_sample_has_every_kind(drawn):
    counts = Counter(mutant.kind for mutant in drawn)
    frequent = {"comparison", "constant", "branch", "argument", "arithmetic"}
    assert min(counts[kind] for kind in frequent) >= COUNT // 12
    assert counts.keys() - frequent == {"boolean", "not", "return"}


def test_mutant_changes_one_line_and_is_python(drawn):
    for mutant in drawn:
        source = FILES[mutant.path]
        changed = mutant.applied(source)
        pairs = zip(source.split("\n"), changed.split("\n"), strict=True)
        differing = [n for n, (old, new) in enumerate(pairs, 1) if old != new]
        assert differing == [mutant.line], mutant.diff
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), mutant.diff


def test_sample_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="1 mutants were asked for"):
        sample(FILES, 0, 1)


@pytest.mark.parametrize("path", FILES)
def test_every_module_has_tests(path):
    area = area_of(path)
    assert area.paths
    assert area.within(ROOT / "tests") == area


def test_module_without_tests_is_refused():
    with pytest.raises(ValueError, match="give it a row"):
        area_of("qframe/new_group/new.py")


def test_every_row_is_of_a_module():
    unused = [prefix for prefix in TABLE if not any(p.startswith(prefix) for p in FILES)]
    assert unused == []
