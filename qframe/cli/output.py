"""The output of commands and its options."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

_JSON = "qframe.json"


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for an option ``--json``, with which standard output is JSON alone."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not kwargs["as_json"]:
            return command(*args, **kwargs)
        meta = click.get_current_context().meta
        meta[_JSON] = []
        try:
            # Plugins and their processes may print at any time.
            with redirected(1, 2), contextlib.redirect_stdout(sys.stderr):
                return command(*args, **kwargs)
        finally:
            for text in meta.pop(_JSON):
                click.echo(text)

    option = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, for a program to read."
    )
    return option(run)


def keras_output(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for the options of a command that saves a model.

    Args:
        what: the model, for the help, such as ``"quantized model"``.
    """
    output = click.option(
        "-o",
        "--output",
        required=True,
        metavar="FILE.keras",
        help=f"Where to save the {what}.",
    )
    force = click.option("--force", is_flag=True, help="Replace the file if it exists.")
    return lambda command: output(force(command))


def print_saved(report: Any, path: Any, as_json: bool, **further: Any) -> None:
    """Print the reports of a command that has saved a model.

    Args:
        report: the report.
        path: the path of the model.
        as_json: whether to print JSON.
        **further: other reports, or None, by their keys in JSON.
    """
    if as_json:
        others = {key: each and each.to_dict() for key, each in further.items()}
        print_json({**report.to_dict(), **others, "saved": str(path)})
    else:
        for each in (report, *further.values()):
            if each is not None:
                console().print(each)
        click.echo(f"Saved {path}.")


@contextlib.contextmanager
def redirected(descriptor: int, target: int) -> Iterator[None]:
    """Redirect a file descriptor, for code that is not Python too."""
    _flush()
    try:
        original = os.dup(descriptor)
        os.dup2(target, descriptor)
    except OSError:  # the program was started without one of the streams
        yield
        return
    try:
        yield
    finally:
        _flush()
        os.dup2(original, descriptor)
        os.close(original)


def _flush() -> None:
    """Flush the streams, so that their text goes to the file that it was written for."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # A program without standard output has None, or a closed file.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # type: ignore[union-attr]


def model_argument(name: str) -> Callable[..., Any]:
    """An argument for a model file, which shells complete."""
    return click.argument(name, type=click.Path())


def print_json(content: Any) -> None:
    """Print JSON types; NaN and infinity become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    context = click.get_current_context(silent=True)
    if context is not None and _JSON in context.meta:
        context.meta[_JSON].append(text)
    else:
        click.echo(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Wide enough that nothing is cut or wrapped if a program reads the output.
_PIPED_WIDTH = 10_000


def console() -> Console:
    """A console on standard output: plain and unwrapped unless it is a terminal."""
    from rich.console import Console

    return Console(
        # Names and errors of plugins are text, not markup: "[sign]" must be printed.
        markup=False,
        emoji=False,
        highlight=False,
        width=None if sys.stdout.isatty() else _PIPED_WIDTH,
    )


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table without a frame. In a narrow terminal all cells wrap except names."""
    lines = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():  # without rich, whose import takes half of the time
        widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
        padded = [
            "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            for line in (columns, *lines)
        ]
        padded.insert(1, "─" * len(padded[0]))
        # Not click.echo, which writes UTF-8 if the encoding is ASCII.
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in padded)
        return
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for index, column in enumerate(columns):
        style = "" if index else "cyan"
        table.add_column(column, style=style, no_wrap=not index, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console().print(table)


def one_line(cell: object) -> str:
    """The text of a cell in one line, as programs read rows."""
    return " ".join(str(cell).split())
