"""The steps of a run: rows of a program, or what NumPy does between two programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from qframe_packed import operations, reference
from qframe_packed.compiled.links import Chain, Link
from qframe_packed.compiled.memory import Memory, Slot
from qframe_packed.compiled.products import Image, Product
from qframe_packed.compiled.programs import Code
from qframe_packed.compiled.tiles import BITS, TILES, Lookup
from qframe_packed.values import Span, Value

_FLOAT = np.float32
# The bytes that a chain works on are to stay near.
_AT_HAND = 2**14


@attrs.frozen
class Bits:
    """How the bits of a tensor are laid out."""

    pixels: int
    planes: int
    plane: int
    channels: int
    span: Span

    @classmethod
    def of(cls, value: Value) -> Bits:
        """The layout of a tensor of integers."""
        assert value.span is not None  # noqa: S101
        channels = value.shape[-1]
        pixels = math.prod(value.shape[:-1])
        return cls(pixels, value.span.bits, -(-channels // 8), channels, value.span)

    @property
    def nbytes(self) -> int:
        """The bytes of one sample."""
        return self.pixels * self.planes * self.plane


@attrs.frozen(eq=False)
class Row:
    """A row of a program.

    Args:
        code: its kernel.
        parts: what that takes, in order: slots, arrays, chains, integers.
        label: what does it, for people.
    """

    code: Code
    parts: tuple[Any, ...]
    label: str = ""

    @property
    def kernel(self) -> str:
        """What does it."""
        return self.label or self.code.name.lower().replace("_", " ")

    def slots(self) -> list[Slot]:
        """What it reads and writes."""
        found: list[Any] = []
        for part in self.parts:
            links = part.links if isinstance(part, Chain) else []
            found += [p for link in links for p in link.parts]
        return [part for part in (*self.parts, *found) if isinstance(part, Slot)]


@attrs.define(eq=False)
class Chained:
    """A row whose numbers go through a chain, which grows while a plan is made.

    Args:
        channels: of a pixel.
        width: the floats of a pixel in the room to work in.
        row: the row.
        chain: the chain.
        number: the number of the step.
    """

    channels: int
    width: int
    row: Row
    chain: Chain
    number: int = -1

    @property
    def links(self) -> list[Link]:
        """The steps of the chain."""
        return self.chain.links

    @property
    def kernel(self) -> str:
        """What does it."""
        return self.row.kernel

    def slots(self) -> list[Slot]:
        """What it reads and writes."""
        return self.row.slots()


def change(source: Slot, pixels: int, channels: int) -> Chained:
    """A chain whose numbers are those of a tensor."""
    width, chain = -(-channels // 8) * 8, Chain.empty()
    most = max(1, _AT_HAND // (4 * width))
    room = Slot(0, 4 * most * width)
    parts = source, pixels, channels, room, most, width, chain
    return Chained(channels, width, Row(Code.CHANGE, parts, "chain"), chain)


def multiply(source: Slot, product: Product) -> Chained:
    """Products with an image, and what follows them."""
    tile, image, chain = TILES[product.tile], product.image, Chain.empty()
    width = max(product.width, -(-product.channels // 8) * 8)
    most = max(1, min(64, _AT_HAND // (4 * width)) // tile.pixels) * tile.pixels
    starts = np.zeros((len(product.starts), width), _FLOAT)
    starts[:, : product.width] = product.starts
    weights = product.weights
    parts = (
        *(source, image.nbytes, image.plane_bytes),
        *(product.places, len(product.places), product.items, len(product.items)),
        *(weights, weights.strides[0], weights.strides[1]),
        *(weights.shape[1], product.columns, product.shifts),
        *(product.factors, *product.factors.shape, starts, product.classes),
        *(product.tile, tile.pixels),
        *(Slot(0, 4 * most * width), Slot(0, 24 * most), most, width),
        *(product.channels, chain),
    )
    return Chained(
        product.channels, width, Row(Code.MULTIPLY, parts, _name(product)), chain
    )


def _name(product: Product) -> str:
    kind = TILES[product.tile].kind
    if kind is not BITS:
        return f"float x {kind.lanes}"
    x, w = product.factors.shape
    return f"{'lookup' if isinstance(kind, Lookup) else 'popcount'} {x} x {w}"


def spread(
    source: Slot, out: Slot, shape: tuple[int, ...], bits: Bits, image: Image, pad: int
) -> Row:
    """Bits as an image, padded with a code."""
    size = image.items * np.dtype(image.kind.item).itemsize
    lookup = isinstance(image.kind, Lookup)
    whole = (*shape[:2], size) == (image.rows, image.columns, bits.plane * (1 + lookup))
    around = [
        _pixel(pad >> plane & 1, bits.channels, size, lookup)
        for plane in range(bits.planes)
    ]
    parts = (
        *(source, *shape[:2], bits.planes, bits.plane),
        *(out, image.rows, image.columns, size, image.top, image.left),
        *(0 if whole else np.stack(around), lookup),
    )
    return Row(Code.SPREAD, parts)


def _pixel(bit: int, channels: int, size: int, lookup: bool) -> Any:
    """The bytes of a pixel, all of whose channels have this bit."""
    packed = np.packbits(np.full(channels, bit, np.uint8), bitorder="little")
    if lookup:
        packed = np.stack([packed << 4, packed & 0xF0], axis=-1).reshape(-1)
    return np.pad(packed, (0, size - len(packed)))


def surround(
    source: Slot, out: Slot, shape: tuple[int, ...], image: Image, pad: float
) -> Row:
    """An image with a number around it."""
    height, width, channels = shape
    row = image.columns * channels
    parts = (
        *(source, height, width * channels),
        *(out, image.rows, row, image.top, image.left * channels, _floats(pad)),
    )
    return Row(Code.SURROUND, parts)


def unpack(source: Slot, out: Slot, bits: Bits) -> Row:
    """Bits as floats."""
    numbers = _floats(bits.span.low, bits.span.step)
    parts = source, bits.pixels, bits.planes, bits.plane, bits.channels, out, numbers
    return Row(Code.UNPACK, parts)


def depthwise(
    source: Slot, out: Slot, op: operations.Conv2D, image: Image, weights: Any, places: Any
) -> Row:
    """Products of each channel with a kernel of its own; the source is padded."""
    parts = (
        *(source, image.rows, image.columns, image.items),
        *(weights, *weights.shape[:2], *op.strides, *op.dilation),
        *(out, *places),
    )
    return Row(Code.DEPTHWISE, parts)


def pool(
    source: Slot, out: Slot, op: Any, shape: tuple[int, ...], places: Any, bits: bool
) -> Row:
    """The largest number of each window, or the mean; or OR and AND of bits."""
    height, width, channels = shape
    average = isinstance(op, operations.AveragePool)
    given = None if average else op.direction
    directions = np.ones(channels, np.int8) if given is None else given
    turned: Any = directions.astype(_FLOAT)
    if bits:
        turned = np.packbits(directions < 0, bitorder="little")
        channels = len(turned)
    parts = (
        *(source, height, width, channels),
        *(*op.pool, *op.strides, op.pads[0], op.pads[2]),
        *(out, *places, turned, average),
    )
    kind = "bits" if bits else "floats"
    code = Code.POOL_BITS if bits else Code.POOL_FLOATS
    return Row(code, parts, f"pool of {kind}")


def mean(source: Slot, out: Slot, pixels: int, channels: int) -> Row:
    """The mean of each channel."""
    return Row(Code.MEAN, (source, pixels, channels, out))


def softmax(source: Slot, out: Slot, rows: int, channels: int) -> Row:
    """The softmax of each row."""
    return Row(Code.SOFTMAX, (source, rows, channels, out))


def _floats(*numbers: float) -> Any:
    return np.array(numbers, _FLOAT)


def is_large(value: Value) -> bool:
    """Whether float32 may not hold the integers of a tensor; they are kept as int32."""
    span = value.span
    return span is not None and max(abs(span.low), abs(span.high)) > 2**24


@attrs.define(eq=False)
class Fallback:
    """An operation as NumPy does it."""

    operation: Any
    inputs: list[Slot]
    values: list[Value]
    out: Slot
    value: Value
    kernel: str = "numpy"

    def slots(self) -> list[Slot]:
        """What it reads and writes."""
        return [*self.inputs, self.out]

    def bind(self, memory: Memory) -> Callable[[int], None]:
        """It, for tensors that are in this memory."""
        kinds = [np.int32 if is_large(v) else _FLOAT for v in (*self.values, self.value)]
        sources = [memory.array(*pair) for pair in zip(self.inputs, kinds, strict=False)]
        out = memory.array(self.out, kinds[-1])

        def run(n: int) -> None:
            given = []
            for source, value in zip(sources, self.values, strict=True):
                array = source[: n * math.prod(value.shape)].reshape(n, *value.shape)
                given.append(array if value.span is None else array.astype(np.int32))
            found = reference.run(self.operation, *given)
            out[: found.size] = found.reshape(-1)

        return run


Step = Row | Chained | Fallback
