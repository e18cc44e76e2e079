"""Checks of the arguments that this plugin's components share."""

from __future__ import annotations

import math
from numbers import Real

from qframe.errors import ArgumentError


def positive_number(owner: str, name: str, value: object) -> float:
    """`value` as a float; raises `ArgumentError` unless it is positive (or infinite)."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or math.isnan(value) or value <= 0:  # type: ignore[arg-type,operator]
        raise ArgumentError(
            f"{name} of {owner} must be a positive number, found {value!r}. "
            f"Write for example {owner}({name}=1.0)."
        )
    return float(value)  # type: ignore[arg-type]
