"""The fields of operations, in memory and in a file.

A field reads itself from JSON; it raises `DataError` for an invalid value. The fields of a
class that a file stores have a codec in their metadata.
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


@attrs.frozen
class RecordField(Field):
    """An object of a class with fields, or None."""

    cls: type[Any]

    def read(self, value: Any, tensors: Tensors) -> Any:
        """The object that a value from JSON describes."""
        if value is None:
            return None
        if not isinstance(value, dict):
            raise DataError(f"expected an object, found {_short(value)}")
        return self.cls(
            **read_fields(self.cls, value, lambda codec, part: codec.read(part, tensors))
        )

    def write(self, value: Any, store: Store) -> Any:
        if value is None:
            return None
        return written_fields(value, lambda codec, part: codec.write(part, store))


Codec = IntegerField | NumberField | ChoiceField | ArrayField | KernelField | RecordField


def written_fields(value: Any, write: Callable[[Codec, Any], Any]) -> dict[str, Any]:
    """The fields of an object in JSON, without those that have their default."""
    entry = {}
    for key, field in _fields_of(type(value)).items():
        part, default = getattr(value, key), field.default
        # The default of an array is None; arrays cannot be compared with !=.
        if part is not default and (default in (None, attrs.NOTHING) or part != default):
            entry[key] = write(field.metadata["codec"], part)
    return entry


def read_fields(
    cls: type[Any], values: Mapping[str, Any], read: Callable[[Codec, Any], Any]
) -> dict[str, Any]:
    """The arguments of a class from JSON; raises `DataError` for other fields."""
    fields = _fields_of(cls)
    needed = {key for key, field in fields.items() if field.default is attrs.NOTHING}
    if not needed <= set(values) <= set(fields):
        raise DataError(f"its fields are {', '.join(fields) or 'none'}")
    arguments = {}
    for key, value in values.items():
        try:
            arguments[key] = read(fields[key].metadata["codec"], value)
        except DataError as error:
            raise DataError(f"{key}: {error}") from error
    return arguments


def _fields_of(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    """The fields that a file stores; the scale of a grid is not among them."""
    return {field.name: field for field in attrs.fields(cls) if "codec" in field.metadata}


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
