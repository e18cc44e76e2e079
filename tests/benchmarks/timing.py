"""How the benchmarks measure and show."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

from rich.console import Console
from rich.table import Table


def seconds(action: Callable) -> float:
    """What one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(
    actions: Mapping[str, Callable], rounds: int, warm: int = 3
) -> dict[str, float]:
    """The median seconds of each action; they take turns, to see the same noise."""
    for action in actions.values():
        for _ in range(warm):  # the first ones compile
            action()
    taken = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    return {name: statistics.median(values) for name, values in taken.items()}


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
