"""Integers of a few bits as a stream of bits.

An integer ``low + step * code`` is stored as its code. The codes follow one another in C
order, the input channels of a weight last. The stream takes the least significant bit of a
code first, and fills each byte from its least significant bit.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fields import IntegerField, Store, Tensors, tensor_of
from qframe.deployment.graph.kernels import check_bits
from qframe.deployment.graph.values import LARGEST, Span
from qframe.errors import DataError

# Products of bits read integers of at most so many bits; others are codes or floats.
MOST_PLANES = 4
# The number of codes checked together: a multiple of 8, so that parts begin with a byte.
_PART = 2**16


@attrs.frozen(eq=False)
class PackedTensor:
    """A tensor of integers, packed.

    Args:
        data: the stream, uint8.
        shape: the shape of the tensor.
        span: the integers that may occur.
    """

    scale: ClassVar[float] = 1.0

    data: NDArray[np.uint8]
    shape: tuple[int, ...]
    span: Span

    def __attrs_post_init__(self) -> None:
        check_bits(self.span)
        size = byte_count(self.shape, self.span.bits)
        if self.data.shape != (size,):
            raise DataError(
                f"a tensor of shape {list(self.shape)} is {size} bytes at "
                f"{self.span.bits} bits each, found {self.data.size}"
            )
        if self._largest_code() >= self.span.count:
            raise DataError(f"a weight is above {self.span.high}")

    @classmethod
    def of(cls, integers: NDArray[Any]) -> PackedTensor:
        """Pack integers in the fewest bits that hold all of them."""
        wide = integers.astype(np.int64)
        low, high = int(wide.min()), int(wide.max())
        step = int(np.gcd.reduce(wide.reshape(-1) - low)) or 1
        span = Span(low, high, step)
        codes = ((wide - low) // step).astype(np.uint16)
        return cls(pack(codes, span.bits), tuple(integers.shape), span)

    @classmethod
    def from_json(cls, value: dict[str, Any], rank: int, tensors: Tensors) -> PackedTensor:
        """The weights that an object of JSON describes; raises `DataError`."""
        keys = {"tensor", "shape", "low", "high", "step"}
        if not {"tensor", "shape", "low", "high"} <= set(value) <= keys:
            raise DataError(f"packed weights have {', '.join(sorted(keys))}")
        shape = IntegerField(1, LARGEST, rank).read(value["shape"], tensors)
        whole = IntegerField(-LARGEST, LARGEST)
        ends = [whole.read(value.get(key, 1), tensors) for key in ("low", "high", "step")]
        data = tensor_of(value["tensor"], tensors)
        if data.dtype != np.uint8:
            raise DataError(f"packed weights are bytes, found {data.dtype}")
        return cls(data, shape, Span(*ends))  # type: ignore[arg-type]

    def to_json(self, store: Store) -> dict[str, Any]:
        """The description of the weights; `store` takes their stream."""
        entry = {"tensor": store(self.data), "shape": list(self.shape)}
        return entry | attrs.asdict(self.span)

    def codes(self) -> NDArray[np.uint16]:
        """The codes, in the shape of the tensor."""
        return unpack(self.data, self.span.bits, math.prod(self.shape)).reshape(self.shape)

    def _largest_code(self) -> int:
        """The largest code, found part by part, as a damaged file may have any size."""
        bits, count = self.span.bits, math.prod(self.shape)
        if self.span.count == 2**bits:
            return self.span.count - 1
        parts = (
            unpack(self.data[i * bits // 8 :], bits, min(_PART, count - i))
            for i in range(0, count, _PART)
        )
        return max(int(part.max()) for part in parts)

    def integers(self) -> NDArray[np.int32]:
        """The integers, in the shape of the tensor."""
        codes = self.codes().astype(np.int32)
        return np.int32(self.span.low) + np.int32(self.span.step) * codes


def byte_count(shape: tuple[int, ...], bits: int) -> int:
    """The length of the stream of a tensor."""
    return -(-math.prod(shape) * bits // 8)


def pack(codes: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """The stream of codes below ``2**bits``."""
    codes = codes.reshape(-1)
    if bits == 8:
        return codes.astype(np.uint8)
    parts = [_packed(codes[i : i + _PART], bits) for i in range(0, len(codes), _PART)]
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def _packed(codes: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    places = np.arange(bits, dtype=np.uint16)
    planes = (codes[:, None] >> places) & np.uint16(1)
    return np.packbits(planes.astype(np.uint8), bitorder="little")


def unpack(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint16]:
    """The first `count` codes of a stream."""
    if bits == 8:
        return data[:count].astype(np.uint16)
    planes = np.unpackbits(data, count=count * bits, bitorder="little")
    codes = np.zeros(count, np.uint16)
    for place in range(bits):
        codes |= planes[place::bits].astype(np.uint16) << np.uint16(place)
    return codes
