"""Checks, and running many of them."""

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
    """One promise of one component; a call checks it.

    Args:
        name: the name of the promise, such as ``"surrogate"``.
        component: the identifier of the component.
        promise: a sentence that states the promise.
        function: raises if the promise is broken.
    """

    name: str
    component: str
    promise: str
    function: Callable[[], None] = attrs.field(repr=False)

    @classmethod
    def of(cls, function: Callable[..., None], component: str, *arguments: Any) -> Check:
        """The check by a function, whose docstring states the promise."""
        promise = " ".join((inspect.getdoc(function) or "").split())
        run = functools.partial(function, *arguments)
        return cls(function.__name__, component, promise, run)

    def __call__(self) -> None:
        self.function()

    def __str__(self) -> str:
        return f"{self.component}-{self.name}"


@attrs.frozen
class Definition:
    """A check of any component that fulfils a condition."""

    function: Callable[[Any], None]
    condition: Callable[[Any], Any]


def collector(definitions: list[Definition]) -> Callable[..., Any]:
    """A decorator that adds a function to a list of checks."""

    def define(*, when: Callable[[Any], Any] = lambda component: True) -> Any:
        def add(function: Callable[[Any], None]) -> Callable[[Any], None]:
            definitions.append(Definition(function, when))
            return function

        return add

    return define


def require(condition: Any, message: str) -> None:
    """Raise unless a condition is true, unlike ``assert`` under ``python -O`` too."""
    if not condition:
        raise AssertionError(message)


def validate_expected(checks: Iterable[Check], expected: Mapping[str, str]) -> None:
    """Raise `ArgumentError` unless expected failures are checks with a reason each."""
    known = {check.name for check in checks}
    for name, reason in expected.items():
        if name not in known:
            raise ArgumentError(
                f"expected_failures names {name!r}, which is not a check of these "
                "components."
                + did_you_mean(name, known)
                + f" They have: {', '.join(sorted(known))}."
            )
        if not isinstance(reason, str) or not reason.strip():
            raise ArgumentError(
                f"expected_failures gives no reason for {name!r}, found {reason!r}; write "
                f"{{{name!r}: 'why it fails'}}."
            )


def run_all(checks: Iterable[Check], expected: Mapping[str, str] | None = None) -> None:
    """Run every check, then raise one `ConformanceError` that lists all failures.

    Args:
        checks: the checks to run.
        expected: check name -> the reason why it fails; a check that passes is an error.
    """
    checks, expected = list(checks), expected or {}
    validate_expected(checks, expected)
    failures = []
    for check in checks:
        try:
            check()
        # The code of others can raise anything.
        except Exception as error:
            if check.name not in expected:
                failures.append((check, _description(error)))
        else:
            if check.name in expected:
                reason = expected[check.name]
                failure = f"passes, but was expected to fail ({reason}); remove that."
                failures.append((check, failure))
    if failures:
        lines = (f"\n- {check}: {check.promise}\n  {text}" for check, text in failures)
        raise ConformanceError(
            f"{len(failures)} of {len(checks)} checks failed:{''.join(lines)}"
        )


def _description(error: Exception) -> str:
    kind = "" if isinstance(error, AssertionError | QFrameError) else type(error).__name__
    text = str(error).strip().replace("\n", "\n  ")
    return f"{kind}: {text}" if kind else text
