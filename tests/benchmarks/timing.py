"""Measurements of the benchmarks, and their tables."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

from rich.console import Console
from rich.table import Table


def seconds(action: Callable) -> float:
    """The seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(
    actions: Mapping[str, Callable], rounds: int, warm: int = 3, turn: float = 0.0
) -> dict[str, float]:
    """The median seconds of each action; they take turns, to see the same noise.

    Args:
        actions: what is timed, by name.
        rounds: how many turns each has.
        warm: how often each runs before; the first times compile.
        turn: the seconds that a turn lasts at least, for the mean of its calls but the
            first, which finds the cache, and the cores, as another action left them. By
            default a turn is one call.
    """
    for action in actions.values():
        for _ in range(warm):
            action()
    taken = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            taken[name].append(_mean(action, turn) if turn else seconds(action))
    return {name: statistics.median(values) for name, values in taken.items()}


def _mean(action: Callable, turn: float) -> float:
    action()
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < turn:
        action()
        calls += 1
    return (time.perf_counter() - start) / calls


def show(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table, with what is in its first column to the left."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=100)
    console.print(title, style="bold")
    console.print(table)
