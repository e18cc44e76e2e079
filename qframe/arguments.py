"""Checks of the arguments of components: the value, or an error that says what to write."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from qframe.errors import ArgumentError, did_you_mean


def positive_number(owner: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ArgumentError` unless it is positive (or infinite)."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or math.isnan(value) or value <= 0:
        raise ArgumentError(
            f"{name} of {owner} must be a positive number, found {value!r}. "
            f"Write for example {owner}({name}=1.0)."
        )
    return float(value)


def integer_within(owner: str, name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int; raises `ArgumentError` unless ``low <= value <= high``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ArgumentError(
            f"{name} of {owner} must be an integer from {low} to {high}, found {value!r}. "
            f"Write for example {owner}({name}={min(max(4, low), high)})."
        )
    return int(value)


def boolean(owner: str, name: str, value: Any) -> bool:
    """`value`; raises `ArgumentError` unless it is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} of {owner} must be True or False, found {value!r}.")
    return value


def one_of(owner: str, name: str, value: Any, choices: Iterable[str]) -> str:
    """`value`; raises `ArgumentError` unless it is one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise ArgumentError(
            f"{name} of {owner} must be one of {', '.join(map(repr, choices))}, found "
            f"{value!r}." + did_you_mean(str(value), choices)
        )
    return str(value)
