"""Validation of the arguments of QKeras: flags, scales, and unsupported options."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from qframe.errors import ArgumentError
from qframe.validation import integer_within

Alpha = float | str | None

# Options of QKeras that this plugin lacks: the only value allowed, and the reason.
_CONSTANTS: dict[str, tuple[Any, str]] = {
    "qnoise_factor": (1.0, "a mix of a number and its level is not a level"),
    "var_name": (None, "it has no variable to name"),
    "use_ste": (True, "nothing learns without the straight-through gradient"),
    "use_variables": (False, "qnoise_factor does not change"),
    "training": (False, "Keras tells each call whether it trains"),
    "scale_axis": (None, "the layer knows where its output channels are"),
    "elements_per_scale": (None, "each output channel has one scale"),
    "post_training_scale": (None, "alpha is 'auto', 'auto_po2' or one number"),
}


def set_constants(quantizer: Any, **arguments: Any) -> None:
    """Set options that support one value only; raise `ArgumentError` for another."""
    owner = type(quantizer).__name__
    for name, value in arguments.items():
        only, reason = _CONSTANTS[name]
        number = isinstance(value, Real) and isinstance(only, Real)
        if value is not only and not (number and value == only):
            raise ArgumentError(
                f"{name} of {owner} is only supported as {only!r}, found {value!r}: "
                f"{reason}. Leave it out."
            )
        setattr(quantizer, name, only)


def flag(owner: str, name: str, value: Any) -> bool:
    """`value` as a bool; raises `ArgumentError` unless it is True, False, 1 or 0."""
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise ArgumentError(f"{name} of {owner} must be True or False, found {value!r}.")
    return bool(value)


def alpha_of(owner: str, alpha: Any) -> Alpha:
    """`alpha`; raises `ArgumentError` unless it is None, a number above 0, or automatic."""
    if alpha is None or (isinstance(alpha, str) and alpha in ("auto", "auto_po2")):
        return alpha
    number = isinstance(alpha, Real) and not isinstance(alpha, bool)
    if number and 0 < alpha < math.inf:
        return float(alpha)
    raise ArgumentError(
        f"alpha of {owner} must be None, a positive finite number, 'auto' or 'auto_po2', "
        f"found {alpha!r}."
    )


def exponents_of(owner: str, alpha: Alpha, low: Any, high: Any) -> tuple[Any, Any]:
    """The validated bounds of the exponent of an automatic scale, or None."""
    bounds = {"min_po2_exponent": low, "max_po2_exponent": high}
    for name, bound in bounds.items():
        if bound is None:
            continue
        if alpha != "auto_po2":
            raise ArgumentError(
                f"{name} of {owner} needs alpha='auto_po2', found alpha={alpha!r}. "
                "Leave it out."
            )
        integer_within(owner, name, bound, -126, 127)
    if low is not None and high is not None and low > high:
        raise ArgumentError(
            f"min_po2_exponent of {owner} must not be above max_po2_exponent, found "
            f"{low} and {high}."
        )
    return low, high


def slope_of(owner: str, slope: Any) -> float:
    """`slope` as a float; raises `ArgumentError` unless 0 or a power of two up to 1."""
    number = isinstance(slope, Real) and not isinstance(slope, bool)
    if not number or not (slope == 0 or (0 < slope <= 1 and math.frexp(slope)[0] == 0.5)):
        raise ArgumentError(
            f"negative_slope of {owner} must be 0 or a power of two up to 1, found "
            f"{slope!r}. Write for example {owner}(negative_slope=0.25)."
        )
    return float(slope)


def seed_of(owner: str, seed: Any) -> int | None:
    """`seed`; raises `ArgumentError` unless it is None or an integer of 32 bits."""
    return None if seed is None else integer_within(owner, "seed", seed, 0, 2**32 - 1)
