"""Proof of power of the tests: each of a seeded sample of small faults makes one fail.

`tox run -e mutants` runs it. Cosmic Ray and mutmut draw no stratified sample and cannot run
the same mutants against another folder of tests, so this is a script.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import attrs
import tomlkit

from mutants.areas import SELECTION, Area, area_of
from mutants.mutation import Mutant
from mutants.running import FOUND, SURVIVED, TIMEOUT, Outcome, Runner
from mutants.sampling import folders, group, sample, sources

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
ACCEPTED = Path(__file__).with_name("accepted.toml")
SEED, COUNT = 0, 96
# Seconds for a run without a fault. A run with one may take LEAST and FACTOR times what the
# run without took, as the machine may be busier by then.
LONGEST, LEAST, FACTOR = 3600, 300, 4
# A survivor that proves nothing: the area of its module is wrong.
UNSEEN = "not imported by its tests"

T = TypeVar("T")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--only", nargs="+", metavar="ID", help="part of a name or place")
    parser.add_argument("--list", action="store_true", help="show the sample, run nothing")
    parser.add_argument("--tests", type=Path, default=TESTS, help="another folder of tests")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    return parser.parse_args()


def chosen(drawn: list[Mutant], only: list[str] | None) -> list[Mutant]:
    """Return the mutants of which a name or a diff line has one of these parts."""
    if only is None:
        return drawn
    for part in only:
        if not any(part in m.name or part in m.diff for m in drawn):
            sys.exit(f"no mutant of the sample is named {part!r}; --list shows them")
    return [m for m in drawn if any(part in m.name or part in m.diff for part in only)]


def area_within(tests: Path, mutant: Mutant) -> Area:
    """Return the tests of a mutant; another folder may lack some of them, but not all."""
    area = area_of(mutant.path)
    left = area.within(tests)
    if not left.paths or (left != area and tests == TESTS):
        sys.exit(f"{mutant.path} has its tests in {area}, which is not in {tests}")
    return left


def together(jobs: int, run: Callable[[T], Outcome], of: Iterable[T]) -> Iterator[Any]:
    """Yield each of these with its outcome, in the order in which they end."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run, each): each for each in of}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def control(runner: Runner, jobs: int, areas: Iterable[Area]) -> dict[Area, float]:
    """Run each area without a fault, where all must pass, and return the seconds."""
    took = {}
    for area, outcome in together(jobs, lambda a: runner.run(a, {}, LONGEST), areas):
        if outcome.outcome != SURVIVED or not outcome.passed:
            sys.exit(f"{outcome.output}\nwithout a fault, {area} did not pass")
        took[area] = outcome.seconds
        print(f"control {outcome.seconds:7.1f} s {area}", flush=True)
    return took


def attempt(
    runner: Runner, mutant: Mutant, source: str, area: Area, limit: float
) -> Outcome:
    """Run the tests of an area with a mutant, the slow ones if the others do not find it.

    Note if they do not import its module.
    """
    changed = {mutant.path: mutant.applied(source)}
    outcome = runner.run(area, changed, limit)
    if outcome.outcome == SURVIVED and area.marks == SELECTION:
        slow = runner.run(area.slow(), changed, LONGEST)
        if slow.outcome != SURVIVED:
            return slow
    if outcome.outcome == SURVIVED and not runner.imports(area, mutant.path, limit):
        return attrs.evolve(outcome, by=UNSEEN)
    return outcome


def accepted() -> dict[str, str]:
    """Return the names of the accepted survivors, each with its reason."""
    entries = tomlkit.parse(ACCEPTED.read_text("utf-8")).unwrap()["accepted"]
    return {entry["mutant"]: entry["reason"] for entry in entries}


def complaints(
    outcomes: dict[Mutant, Outcome], reasons: dict[str, str], whole: bool
) -> list[str]:
    """List survivors without a reason or unseen, and reasons for what did not survive."""
    survived = {m.name for m, o in outcomes.items() if o.outcome == SURVIVED}
    wrong = [f"survived: {m.diff}" for m in outcomes if m.name in survived - set(reasons)]
    wrong += [f"{UNSEEN}: {m.diff}" for m, o in outcomes.items() if o.by == UNSEEN]
    if whole:
        wrong += [f"accepted, and no survivor: {n}" for n in reasons if n not in survived]
    return wrong


def table(outcomes: dict[Mutant, Outcome]) -> str:
    """Write the outcomes in each group as a table."""
    counts: Counter[tuple[str, str]] = Counter()
    for mutant, outcome in outcomes.items():
        counts[group(mutant.path), outcome.outcome] += 1
        counts["all", outcome.outcome] += 1
    rows = [f"{'':26}{FOUND:>10}{SURVIVED:>10}{TIMEOUT:>10}"]
    for name in [*dict.fromkeys(group(m.path) for m in outcomes), "all"]:
        cells = (counts[name, outcome] for outcome in (FOUND, SURVIVED, TIMEOUT))
        rows.append(f"{name:26}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(rows)


def main() -> None:
    given = options()
    tests = given.tests.resolve()
    files = sources(ROOT)
    drawn = chosen(sample(files, given.seed, given.count), given.only)
    areas = {mutant: area_within(tests, mutant) for mutant in drawn}
    if given.list:
        for mutant, area in areas.items():
            print(f"{mutant.diff}\n    {area}")
        return
    runner = Runner(tuple(folders(ROOT)), tests)
    took = control(runner, given.jobs, dict.fromkeys(areas.values()))

    def run(mutant: Mutant) -> Outcome:
        area = areas[mutant]
        limit = LEAST + FACTOR * took[area]
        return attempt(runner, mutant, files[mutant.path], area, limit)

    ended = {}
    for mutant, outcome in together(given.jobs, run, drawn):
        ended[mutant] = outcome
        print(f"{outcome.outcome:8} {outcome.seconds:6.1f} s {mutant.diff}", flush=True)
        if given.out:
            shown = ("outcome", "by", "seconds")
            result = {m.name: {k: getattr(o, k) for k in shown} for m, o in ended.items()}
            given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    outcomes = {mutant: ended[mutant] for mutant in drawn}
    whole = (given.seed, given.count, given.only, tests) == (SEED, COUNT, None, TESTS)
    print(f"\n{table(outcomes)}\n")
    wrong = complaints(outcomes, accepted(), whole)
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
