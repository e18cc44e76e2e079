"""The fields of operations: the values that they take, in memory and in a file.

A field reads itself from JSON, and refuses what it does not take with a `DataError`.
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
# Adds a tensor to a file, and returns its name there.
Store = Callable[[Any], str]


@attrs.frozen
class IntegerField:
    """A list of integers within bounds; one integer where `count` is None."""

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
        # True is an int in Python, and not in JSON.
        if type(value) is not int or not self.low <= value <= self.high:
            raise DataError(
                f"expected an integer from {self.low} to {self.high}, found {_short(value)}"
            )
        return value

    def write(self, value: Any, store: Store) -> Any:
        """The integers as JSON has them."""
        return value if self.count is None else list(value)


@attrs.frozen
class NumberField:
    """A finite number; None too where it is `optional`."""

    optional: bool = False

    def read(self, value: Any, tensors: Tensors) -> float | None:
        """The number of a value from JSON, as a float."""
        if value is None and self.optional:
            return None
        if type(value) not in (int, float) or not abs(value) <= LARGEST:
            raise DataError(f"expected a finite number, found {_short(value)}")
        return float(value)

    def write(self, value: Any, store: Store) -> Any:
        """The number as JSON has it, an integer where it is whole."""
        whole = value is not None and value == int(value)
        return int(value) if whole else value


@attrs.frozen
class ChoiceField:
    """One of some names."""

    names: tuple[str, ...]

    def read(self, value: Any, tensors: Tensors) -> str:
        """The name in a value from JSON."""
        if not isinstance(value, str) or value not in self.names:
            raise DataError(
                f"expected one of {', '.join(self.names)}, found {_short(value)}"
            )
        return value

    def write(self, value: Any, store: Store) -> Any:
        """The name, unchanged."""
        return value


@attrs.frozen
class ArrayField:
    """A tensor of numbers, named in JSON; None too where it is `optional`.

    Args:
        ranks: the numbers of axes that it may have.
        kinds: the kinds of dtypes, ``f`` or ``i``, that it may have.
        finite: whether each number must be; NaN is refused in any case.
        optional: whether None may stand for it.
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
            good = np.isfinite(array) if self.finite else ~np.isnan(array)
            if not good.all():
                raise DataError(f"the tensor {value!r} holds numbers that are not finite")
        return array

    def write(self, value: Any, store: Store) -> Any:
        """The name of the tensor in the file, once it is stored."""
        return None if value is None else store(value)


@attrs.frozen
class KernelField:
    """A tensor of floats, or of integers in the format of a target."""

    rank: int

    def read(self, value: Any, tensors: Tensors) -> Any:
        """The tensor of floats that a value from JSON names."""
        return ArrayField(range(self.rank, self.rank + 1)).read(value, tensors)

    def write(self, value: Any, store: Store) -> Any:
        """The name of the tensor in the file, once it is stored."""
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
    """Whether a number is an integer."""
    return math.isfinite(value) and value == int(value)
