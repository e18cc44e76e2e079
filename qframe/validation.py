"""Checks of arguments, which return the value or raise `ArgumentError`."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

from qframe.errors import ArgumentError, CallError, did_you_mean, shown

F = TypeVar("F", bound=Callable[..., Any])


def advised(advice: str) -> Callable[[F], F]:
    """Let a function answer calls that it does not take with what to type instead."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            unknown = [name for name in kwargs if name not in signature.parameters]
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                reason = f"there is no argument {unknown[0]!r}" if unknown else error
                takes = ", ".join(signature.parameters)
                raise CallError(
                    f"qframe.{function.__name__}({takes}): {reason}. {advice}"
                ) from None
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def positive_number(owner: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless it is positive (or infinite)."""
    if not _is_number(value) or not value > 0:
        raise ArgumentError(
            f"{name} of {owner} must be a positive number, found {shown(value)}. "
            f"Write for example {owner}({name}=1.0)."
        )
    return float(value)


def finite_number(owner: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless it is positive and finite."""
    number = positive_number(owner, name, value)
    if math.isinf(number):
        raise ArgumentError(
            f"{name} of {owner} must be finite, found {shown(value)}. Write for example "
            f"{owner}({name}=1.0)."
        )
    return number


def any_number(owner: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless it is a finite number."""
    if not _is_number(value) or not math.isfinite(value):
        raise ArgumentError(
            f"{name} of {owner} must be a finite number, found {shown(value)}. Write for "
            f"example {owner}({name}=0.5)."
        )
    return float(value)


def number_from_zero(owner: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless it is 0 or a positive number."""
    if not _is_number(value) or not value >= 0:
        raise ArgumentError(
            f"{name} of {owner} must be 0 or a positive number, found {shown(value)}. "
            f"Write for example {owner}({name}=0.0)."
        )
    return float(value)


def share_number(owner: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless ``0 <= value <= 1``."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise ArgumentError(
            f"{name} of {owner} must be a number from 0 to 1, found {shown(value)}. Write "
            f"for example {name}=0.5."
        )
    return float(value)


def momentum_number(owner: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless ``0 <= value < 1``."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ArgumentError(
            f"momentum of {owner} must be a number from 0 up to 1, without 1, found "
            f"{shown(value)}. Write for example momentum=0.9."
        )
    return float(value)


def percentile_number(owner: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless ``50 < value <= 100``."""
    if not _is_number(value) or not 50 < value <= 100:
        raise ArgumentError(
            f"percentile of {owner} must be a number above 50 and up to 100, found "
            f"{shown(value)}. Write for example percentile=99.9."
        )
    return float(value)


def _is_number(value: Any) -> bool:
    """Return whether a value is a real number that fits a float."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def integer_within(owner: str, name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int; raises `ArgumentError` unless ``low <= value <= high``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ArgumentError(
            f"{name} of {owner} must be an integer from {low} to {high}, found "
            f"{shown(value)}. Write for example {owner}({name}={min(max(4, low), high)})."
        )
    return int(value)


def boolean(owner: str, name: str, value: Any) -> bool:
    """`value`; raises `ArgumentError` unless it is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(
            f"{name} of {owner} must be True or False, found {shown(value)}."
        )
    return value


def one_of(owner: str, name: str, value: Any, choices: Iterable[str]) -> str:
    """`value`; raises `ArgumentError` unless it is one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise ArgumentError(
            f"{name} of {owner} must be one of {', '.join(map(repr, choices))}, found "
            f"{shown(value)}."
            + (did_you_mean(value, choices) if isinstance(value, str) else "")
        )
    return str(value)


def seed_number(owner: str, value: Any) -> int | None:
    """`value`; raises `ArgumentError` unless it is None or an integer of 31 bits."""
    return None if value is None else integer_within(owner, "seed", value, 0, 2**31 - 1)


def effective(
    owner: str, name: str, value: Any, other: str, other_value: Any, *needed: Any
) -> None:
    """Raise `ArgumentError` for an argument without an effect.

    Args:
        owner: the function or class.
        name: of the argument.
        value: of the argument.
        other: the name of the other argument.
        other_value: its value.
        *needed: the values of the other one with which it has an effect.
    """
    if other_value not in needed:
        raise ArgumentError(
            f"{name}={value!r} of {owner} has no effect with {other}={other_value!r}. "
            f"Leave it out, or write {other}={needed[0]!r}."
        )
