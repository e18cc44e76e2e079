"""Runs of mutants on a toy package, whose faults and tests are known."""

import compileall
import os

import pytest

from mutants.__main__ import accepted, attempt, complaints, control, table
from mutants.areas import Area
from mutants.mutation import Mutant
from mutants.running import Runner

SOURCES = {
    "__init__.py": "",
    "sums.py": "def total(x, y):\n    return x + y + 0\n",
    "unused.py": "ONE = 1\n",
}
TESTS = {
    "test_sums.py": """
        import subprocess, sys

        def test_total():
            from toy.sums import total
            assert total(2, 3) == 5

        def test_total_elsewhere():
            code = "from toy.sums import total; assert total(1, 1) == 2"
            subprocess.run([sys.executable, "-c", code], check=True)
    """,
    "test_elsewhere.py": """
        import subprocess, sys

        def test_total_elsewhere():
            code = "from toy.sums import total; assert total(1, 1) == 2"
            subprocess.run([sys.executable, "-c", code], check=True)
    """,
    "test_slow.py": """
        import pytest

        def test_total():
            from toy.sums import total

        @pytest.mark.long
        def test_total_slowly():
            from toy.sums import total
            assert total(2, 3) == 5
    """,
    "test_input.py": "def test_input(): input()",
    "test_skipped.py": "import pytest\n\ndef test_skipped(): pytest.skip('always')",
}
SUM = "    return x + y + 0"
FAULT = Mutant("toy/sums.py", 2, "arithmetic", SUM, "    return x - y + 0")
EQUIVALENT = Mutant("toy/sums.py", 2, "arithmetic", SUM, "    return x + y - 0")
UNUSED = Mutant("toy/unused.py", 1, "constant", "ONE = 1", "ONE = 2")

pytestmark = pytest.mark.long


@pytest.fixture
def runner(tmp_path):
    package, tests = tmp_path / "toy", tmp_path / "tests"
    package.mkdir()
    tests.mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    for name, source in SOURCES.items():
        (package / name).write_text(source)
    for name, source in TESTS.items():
        (tests / name).write_text(source.replace("\n        ", "\n"))
    return Runner((package,), tests)


def outcome_of(runner, mutant, area="test_sums.py"):
    source = SOURCES[mutant.path.removeprefix("toy/")]
    return attempt(runner, mutant, source, Area((area,)), limit=300)


@pytest.mark.parametrize("area", ["test_sums.py", "test_elsewhere.py", "test_slow.py"])
def test_fault_is_found(runner, area):
    """In this process, in one that a test starts or by a slow test; not in the checkout."""
    (package,) = runner.packages
    outcome = outcome_of(runner, FAULT, area)
    assert outcome.outcome == "found"
    assert outcome.by.startswith(f"tests/{area}::test_total")
    assert {path.name: path.read_text() for path in package.iterdir()} == SOURCES


def test_fault_that_hides_in_a_cache_is_found(runner):
    """With the size and the time of the file that was compiled before."""
    (package,) = runner.packages
    path = package / "sums.py"
    assert len(FAULT.after) == len(FAULT.before)
    os.utime(path, (0, 0))
    compileall.compile_dir(package, quiet=1)
    path.write_text(FAULT.applied(path.read_text()))
    os.utime(path, (0, 0))
    assert runner.run(Area(("test_sums.py",)), {}, 300).outcome == "found"


def test_survivor_of_a_module_that_is_not_imported_is_an_error(runner):
    ended = {UNUSED: outcome_of(runner, UNUSED)}
    (wrong,) = complaints(ended, {UNUSED.name: "It is not used."}, whole=True)
    assert wrong == f"not imported by its tests: {UNUSED.diff}"


def test_run_without_end_is_killed(runner):
    endless = SUM.replace("return", "while True: ")
    sources = {"toy/sums.py": SOURCES["sums.py"].replace(SUM, endless)}
    outcome = runner.run(Area(("test_sums.py",)), sources, timeout=0.5)
    assert outcome.outcome == "timeout"


def test_control_that_passes_has_a_time(runner):
    areas = [Area(("test_sums.py",)), Area(("test_elsewhere.py",))]
    took = control(runner, 2, areas)
    assert took.keys() == set(areas)
    assert min(took.values()) > 0


@pytest.mark.parametrize("area", ["test_input.py", "test_skipped.py", "test_absent.py"])
def test_control_without_a_passing_test_is_an_error(runner, area):
    """A test fails, as there is no input; none is left; there is no such file."""
    with pytest.raises(SystemExit, match="did not pass"):
        control(runner, 1, [Area((area,))])


def test_equivalent_mutant_survives_and_needs_a_reason(runner):
    late, survivor = runner.run(Area(()), {}, 0.01), outcome_of(runner, EQUIVALENT)
    assert (survivor.outcome, survivor.by, survivor.passed) == ("survived", "", 2)
    ended = {FAULT: late, EQUIVALENT: survivor}
    reasons = {EQUIVALENT.name: "Nothing is added."}
    assert complaints(ended, reasons, whole=True) == []
    assert complaints(ended, {}, whole=True) == [f"survived: {EQUIVALENT.diff}"]
    idle = {**reasons, FAULT.name: "It was found.", "gone": "It is not drawn."}
    assert complaints(ended, idle, whole=False) == []
    assert len(complaints(ended, idle, whole=True)) == 2
    header, toy, everything = table(ended).splitlines()
    assert header.split() == ["found", "survived", "timeout"]
    assert toy.split() == ["toy", "0", "1", "1"]
    assert everything.split() == ["all", "0", "1", "1"]


def test_accepted_survivors_have_reasons():
    assert accepted()
    assert min(len(reason.split()) for reason in accepted().values()) >= 4
