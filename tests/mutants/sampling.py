"""A seeded sample of mutants, stratified by packages.

The sample depends only on the seed and the sources. Mutants are ordered by a digest of
their names, so that a change of one file leaves most of the sample as it was.
"""

import hashlib
import itertools
from collections import defaultdict
from pathlib import Path

from mutants.candidates import mutants
from mutants.mutation import Mutant

# The other kinds count as one, so that the rare ones are not drawn too often.
KINDS = {"comparison", "constant", "branch", "argument", "arithmetic"}


def folders(root: Path) -> list[Path]:
    """The packages of a checkout: qframe and its plugins."""
    return [root / "qframe", *sorted((root / "plugins").glob("qframe_*"))]


def sources(root: Path) -> dict[str, str]:
    """The modules of these packages, by their path within the checkout."""
    paths = sorted(path for folder in folders(root) for path in folder.rglob("*.py"))
    # As bytes, so that nothing translates the ends of lines.
    return {path.relative_to(root).as_posix(): path.read_bytes().decode() for path in paths}


def group(path: str) -> str:
    """Return the stratum of a module: its package or plugin, or `qframe` at top level."""
    first, second, *rest = path.split("/")
    return f"{first}/{second}" if rest else first


def sample(files: dict[str, str], seed: int, count: int) -> list[Mutant]:
    """Draw this many mutants, and return them group by group."""
    lines: dict[str, int] = defaultdict(int)
    result: dict[str, list[Mutant]] = defaultdict(list)
    for path, source in files.items():
        lines[group(path)] += source.count("\n")
        result[group(path)] += mutants(path, source)
    empty = sorted(name for name in lines if not result[name])
    if empty or not len(lines) <= count <= sum(map(len, result.values())):
        least, most = len(lines), sum(map(len, result.values()))
        raise ValueError(
            f"{count} mutants were asked for; there are {most} in {least} groups, "
            f"and none in {empty}; choose a number between these two"
        )
    shares = _shares(lines, {name: len(of) for name, of in result.items()}, count)
    drawn = []
    for name in sorted(result):
        order = (m for m in _ordered(result[name], seed) if m.compiles(files[m.path]))
        share = itertools.islice(order, shares[name])
        drawn += sorted(share, key=lambda m: (m.path, m.line, m.name))
    return drawn


def _shares(lines: dict[str, int], most: dict[str, int], count: int) -> dict[str, int]:
    """Give each group one, and then the next to the group whose share is the smallest."""
    shares = dict.fromkeys(sorted(lines), 1)
    for _ in range(count - len(shares)):
        open_ = [name for name in shares if shares[name] < most[name]]
        # Sainte-Laguë: the quotients round each share to the nearest number.
        name = max(open_, key=lambda name: lines[name] / (2 * shares[name] + 1))
        shares[name] += 1
    return shares


def _ordered(result: list[Mutant], seed: int) -> list[Mutant]:
    """Order by digest, and take the first of each kind before the second of any."""

    def digest(mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed} {mutant.name}".encode()).hexdigest()

    ranks: dict[str, int] = defaultdict(int)
    order = []
    for mutant in sorted(result, key=digest):
        kind = mutant.kind if mutant.kind in KINDS else ""
        order.append((ranks[kind], digest(mutant), mutant))
        ranks[kind] += 1
    return [mutant for *_, mutant in sorted(order, key=lambda each: each[:2])]
