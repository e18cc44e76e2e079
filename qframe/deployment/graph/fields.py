"""The fields of operations, in memory and in a file.

A field reads itself from JSON; it raises `DataError` for an invalid value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.values import LARGEST
from qframe.errors import DataError

Tensors = Mapping[str, np.ndarray[Any, Any]]
# Adds a tensor to a file, and returns its name in the file.
Store = Callable[[Any], str]


class Field:
    """A field whose values are the same in memory and in JSON."""

    def write(self, value: Any, store: Store) -> Any:
        """The value in JSON; `store` takes a tensor and returns its name."""
        return value


@attrs.frozen
class IntegerField(Field):
    """A list of integers within bounds; one integer if `count` is None."""

    low: int
    high: int
    count: int | range | None = None

    def read(self, value: Any, tensors: Tensors) -> int | tuple[int, ...]:
        """The integers of a value from JSON, as a tuple, or the integer."""
        if self.count is None:
            return self._one(value)
        counts = self.count if isinstance(self.count, range) else (self.count,)
        if not isinstance(value, list) or len(value) not in counts:
            raise DataError(f"expected {counts[0]} integers or more, found {_short(value)}")
        return tuple(self._one(item) for item in value)

    def _one(self, value: Any) -> int:
        # type() excludes True, which is an int only in Python.
        if type(value) is not int or not self.low <= value <= self.high:
            raise DataError(
                f"expected an integer from {self.low} to {self.high}, found {_short(value)}"
            )
        return value

    def write(self, value: Any, store: Store) -> Any:
        return value if self.count is None else list(value)


@attrs.frozen
class NumberField(Field):
    """A number of a magnitude up to `most`, or None if it is `optional`."""

    optional: bool = False
    most: float = LARGEST

    def read(self, value: Any, tensors: Tensors) -> float | None:
        """The number of a value from JSON, as a float."""
        if value is None and self.optional:
            return None
        if type(value) not in (int, float) or not abs(value) <= self.most:
            raise DataError(f"expected a finite number, found {_short(value)}")
        return float(value)

    def write(self, value: Any, store: Store) -> Any:
        # Whole numbers are integers in JSON.
        whole = value is not None and value == int(value)
        return int(value) if whole else value


@attrs.frozen
class ChoiceField(Field):
    """One of some names."""

    names: tuple[str, ...]

    def read(self, value: Any, tensors: Tensors) -> str:
        """The name in a value from JSON."""
        if not isinstance(value, str) or value not in self.names:
            raise DataError(
                f"expected one of {', '.join(self.names)}, found {_short(value)}"
            )
        return value


@attrs.frozen
class ArrayField(Field):
    """A tensor of numbers, named in JSON, or None if it is `optional`.

    Args:
        ranks: the allowed numbers of axes.
        kinds: the allowed kinds of dtypes, ``f`` or ``i``.
        finite: whether infinity is refused too, and not NaN alone.
        optional: whether None is allowed.
    """

    ranks: range
    kinds: str = "f"
    finite: bool = True
    optional: bool = False

    def read(self, value: Any, tensors: Tensors) -> Any:
        """The tensor that a value from JSON names."""
        if value is None and self.optional:
            return None
        array = tensor_of(value, tensors)
        if array.ndim not in self.ranks or array.dtype.kind not in self.kinds:
            raise DataError(
                f"the tensor {value!r} has a wrong rank or dtype: {list(array.shape)} of "
                f"{array.dtype}"
            )
        if not array.size:
            raise DataError(f"the tensor {value!r} is empty")
        if array.dtype.kind == "f":
            valid = np.isfinite(array) if self.finite else ~np.isnan(array)
            if not valid.all():
                raise DataError(f"the tensor {value!r} holds numbers that are not finite")
        return array

    def write(self, value: Any, store: Store) -> Any:
        return None if value is None else store(value)


@attrs.frozen
class KernelField(Field):
    """A tensor of floats, or of integers in the format of a target."""

    rank: int

    def read(self, value: Any, tensors: Tensors) -> Any:
        """The tensor of floats that a value from JSON names."""
        return ArrayField(range(self.rank, self.rank + 1)).read(value, tensors)

    def write(self, value: Any, store: Store) -> Any:
        return store(value)


Codec = IntegerField | NumberField | ChoiceField | ArrayField | KernelField


def of(codec: Codec) -> dict[str, Codec]:
    """The metadata of a field of an operation."""
    return {"codec": codec}


def tensor_of(name: Any, tensors: Tensors) -> Any:
    """The tensor that a value from JSON names."""
    if not isinstance(name, str) or name not in tensors:
        raise DataError(f"there is no tensor {_short(name)}")
    return tensors[name]


def _short(value: Any) -> str:
    text = repr(value) if not _is_long(value) else f"a long {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:77]}..."


def _is_long(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) > 2**64
    return isinstance(value, (list, dict, str)) and len(value) > 40


def is_whole(value: float) -> bool:
    """Return whether a number is an integer."""
    return math.isfinite(value) and value == int(value)
