"""What a check is, and what running many of them tells."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from qframe.errors import ArgumentError, QFrameError, did_you_mean


class ConformanceError(AssertionError):
    """A component breaks promises; the message lists all of them."""


@attrs.frozen
class Check:
    """One promise, and the component that has to keep it; call it to find out.

    Args:
        name: of the promise, such as ``"surrogate"``.
        component: the identifier of what is checked.
        promise: what is checked, in a sentence.
        function: raises where the promise is broken.
    """

    name: str
    component: str
    promise: str
    function: Callable[[], None] = attrs.field(repr=False)

    @classmethod
    def of(cls, function: Callable[..., None], component: str, *arguments: Any) -> Check:
        """The promise that a function's docstring gives, for its arguments."""
        promise = " ".join((inspect.getdoc(function) or "").split())
        run = functools.partial(function, *arguments)
        return cls(function.__name__, component, promise, run)

    def __call__(self) -> None:
        self.function()

    def __str__(self) -> str:
        return f"{self.component}-{self.name}"


@attrs.frozen
class Definition:
    """A check that waits for a component: a function of it, and whom it is about."""

    function: Callable[[Any], None]
    concerns: Callable[[Any], Any]


def collector(definitions: list[Definition]) -> Callable[..., Any]:
    """A decorator that adds a function to a list of checks."""

    def concerning(*, when: Callable[[Any], Any] = lambda component: True) -> Any:
        def add(function: Callable[[Any], None]) -> Callable[[Any], None]:
            definitions.append(Definition(function, when))
            return function

        return add

    return concerning


def require(kept: Any, message: str) -> None:
    """Raise unless a promise is kept; unlike ``assert``, under ``python -O`` too."""
    if not kept:
        raise AssertionError(message)


def validate_expected(checks: Iterable[Check], expected: Mapping[str, str]) -> None:
    """Raise `ArgumentError` unless expected failures are checks, with a reason each."""
    known = {check.name for check in checks}
    for name, reason in expected.items():
        if name not in known:
            raise ArgumentError(
                f"expected_failures names {name!r}, which is no check of these components."
                + did_you_mean(name, known)
                + f" They have: {', '.join(sorted(known))}."
            )
        if not isinstance(reason, str) or not reason.strip():
            raise ArgumentError(
                f"expected_failures gives no reason for {name!r}, found {reason!r}; write "
                f"{{{name!r}: 'why it fails'}}."
            )


def run_all(checks: Iterable[Check], expected: Mapping[str, str] | None = None) -> None:
    """Run every check, then raise one `ConformanceError` for all that went wrong.

    Args:
        checks: what to run.
        expected: check name -> the reason why it fails; one that passes is an error too.
    """
    checks, expected = list(checks), expected or {}
    validate_expected(checks, expected)
    failures = []
    for check in checks:
        try:
            check()
        # A stranger's code can raise anything.
        except Exception as error:
            if check.name not in expected:
                failures.append((check, _told(error)))
        else:
            if check.name in expected:
                reason = expected[check.name]
                told = f"passes, but was expected to fail ({reason}); remove that."
                failures.append((check, told))
    if failures:
        lines = (f"\n- {check}: {check.promise}\n  {told}" for check, told in failures)
        raise ConformanceError(
            f"{len(failures)} of {len(checks)} checks failed:{''.join(lines)}"
        )


def _told(error: Exception) -> str:
    kind = "" if isinstance(error, AssertionError | QFrameError) else type(error).__name__
    text = str(error).strip().replace("\n", "\n  ")
    return f"{kind}: {text}" if kind else text
