"""Isolation of the code of plugins from standard output, and of its errors."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator

_INTERNAL = ("qframe", "pluggy", "importlib", "contextlib")


class Failure(Exception):
    """The error that a plugin raised.

    Args:
        reason: the name of the error and its message.
        place: the file and the line; empty if unknown.
    """

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(reason, place)
        self.reason = reason
        self.place = place

    def __str__(self) -> str:
        return f"{self.reason} ({self.place})" if self.place else self.reason


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Run a plugin's code; raises `Failure` for any error of it.

    Its output goes to standard error, since a program may read standard output.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        # An interrupt by the user stops everything. A plugin that raises KeyboardInterrupt
        # looks the same; one that raises a subclass of it does not.
        if type(error) is KeyboardInterrupt:
            raise
        raise Failure(_reason(error), _place(error)) from error


def _reason(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as other:
        if type(other) is KeyboardInterrupt:
            raise
        return f"{name}, whose message fails with {type(other).__name__}"
    return f"{name}: {text}"


def _place(error: BaseException) -> str:
    """The file and the line of the error, outside of this package and of importlib."""
    if isinstance(error, SyntaxError) and not (error.filename or "<").startswith("<"):
        return f"{error.filename}, line {error.lineno}"
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name, file = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
        if str(name).partition(".")[0] not in _INTERNAL and not file.startswith("<"):
            place = f"{file}, line {line}"
    return place
