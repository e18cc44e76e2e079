"""Validation and serialization of hyperparameters: numbers or schedules."""

from __future__ import annotations

from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers import schedules

from qframe.errors import ArgumentError


def checked(owner: str, name: str, value: Any, high: float) -> Any:
    """`value`, a number as a float; raises `ArgumentError` unless 0 <= value <= high.

    For a schedule it checks the number at step 0.
    """
    is_schedule = isinstance(value, schedules.LearningRateSchedule)
    number = _at_step_0(owner, name, value) if is_schedule else number_of(value)
    if number is None or not 0 <= number <= high or number == float("inf"):
        found = f"{number!r} at step 0 of {value!r}" if is_schedule else repr(value)
        limit = "0 or more" if high == float("inf") else f"from 0 to {high:g}"
        raise ArgumentError(
            f"{name} of {owner} must be a number {limit}, or a keras.optimizers.schedules."
            f"LearningRateSchedule of such numbers, found {found}. "
            f"Write for example {owner}({name}=1e-6)."
        )
    return value if is_schedule else number


def number_of(value: Any) -> float | None:
    """A number, or that in a scalar array, tensor or variable; else None."""
    if isinstance(value, (bool, np.bool_, str)) or value is None:
        return None
    if isinstance(value, Real):
        return float(value)
    try:
        array = np.asarray(ops.convert_to_numpy(value))
    except (TypeError, ValueError, AttributeError):
        return None
    return float(array) if array.shape == () and array.dtype.kind in "fiu" else None


def _at_step_0(owner: str, name: str, schedule: Any) -> float | None:
    try:
        return number_of(schedule(ops.convert_to_tensor(0)))
    except Exception as error:
        raise ArgumentError(
            f"{name} of {owner} is a schedule that fails at step 0: {schedule!r} raises "
            f"{type(error).__name__}: {error}"
        ) from error


def serialized(value: Any) -> Any:
    """The config entry of a variable or a schedule."""
    if isinstance(value, schedules.LearningRateSchedule):
        return schedules.serialize(value)
    return float(ops.convert_to_numpy(value))


def deserialized(config: Any, custom_objects: dict[str, Any] | None) -> Any:
    """The inverse of `serialized`."""
    if isinstance(config, dict):
        return keras.optimizers.schedules.deserialize(config, custom_objects)
    return config
