"""Where commands print to, and what they are asked about it."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_JSON = "qframe.json"


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for JSON; with it nothing else gets to standard output."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not kwargs["as_json"]:
            return command(*args, **kwargs)
        meta = click.get_current_context().meta
        meta[_JSON] = []
        try:
            # A plugin, and what it starts, may print at any time.
            with redirected(1, 2), contextlib.redirect_stdout(sys.stderr):
                return command(*args, **kwargs)
        finally:
            for text in meta.pop(_JSON):
                click.echo(text)

    option = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, for a program to read."
    )
    return option(run)


@contextlib.contextmanager
def redirected(descriptor: int, target: int) -> Iterator[None]:
    """Have another file behind a descriptor, for code that is not Python too."""
    _flush()
    try:
        kept = os.dup(descriptor)
        os.dup2(target, descriptor)
    except OSError:  # a program that was started without one of them
        yield
        return
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _flush() -> None:
    """What is written to a descriptor so far belongs to the file behind it so far."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # A program without standard output has None, or a closed file.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # type: ignore[union-attr]


def model_argument(name: str) -> Callable[..., Any]:
    """An argument that is a model file, which shells complete."""
    return click.argument(name, type=click.Path())


def print_json(found: Any) -> None:
    """Print JSON types; a number that JSON has not is null."""
    text = json.dumps(_finite(found), indent=2, allow_nan=False)
    context = click.get_current_context(silent=True)
    if context is not None and _JSON in context.meta:
        context.meta[_JSON].append(text)
    else:
        click.echo(text)


def _finite(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _finite(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


# Wide enough that nothing is cut or wrapped where a program reads along.
_PIPED_WIDTH = 10_000


def console() -> Console:
    """A console on standard output: plain and unwrapped unless it is a terminal."""
    from rich.console import Console

    return Console(
        # Names and errors of plugins are text, not markup: "[sign]" shall be seen.
        markup=False,
        emoji=False,
        highlight=False,
        width=None if sys.stdout.isatty() else _PIPED_WIDTH,
    )


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table without frame. In a narrow terminal its cells wrap, names last."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for index, column in enumerate(columns):
        first = index == 0
        style = "cyan" if first else ""
        made.add_column(column, style=style, no_wrap=first, overflow="fold")
    for row in rows:
        made.add_row(*(one_line(cell) for cell in row))
    return made


def one_line(cell: object) -> str:
    """The text of a cell, which must not break the row that a program reads."""
    return " ".join(str(cell).split())
