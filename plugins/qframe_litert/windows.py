"""Windows that move over images: their padding, and pools."""

from __future__ import annotations

from typing import Any

import attrs

from qframe.deployment.graph.values import Value
from qframe.deployment.lowering.images import pads_of
from qframe.errors import QFrameError
from qframe_litert.model import Options
from qframe_litert.writer import Writer, Written

SAME, VALID = 0, 1


def padding_of(
    writer: Writer, x: Written, operation: Any, reach: tuple[int, int], pad: float = 0.0
) -> tuple[int, Written]:
    """The padding of an operator, and what it reads: the image, or one with a border.

    Args:
        writer: writes an operator for a border that no padding describes.
        x: the image.
        operation: has `pads` and `strides`.
        reach: the size of a window.
        pad: the number in the border, counted from the zero point of integers. Default 0.
    """
    pads = operation.pads
    if not any(pads):
        return VALID, x
    if not pad and pads == pads_of("same", x.shape, reach, operation.strides):
        return SAME, x
    return VALID, bordered(writer, x, pads, pad)


def bordered(
    writer: Writer, x: Written, pads: tuple[int, ...], pad: float = 0.0
) -> Written:
    """Write a border around an image."""
    top, bottom, left, right = pads
    height, width, channels = x.shape
    shape = height + top + bottom, width + left + right, channels
    widths = writer.constant("pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    value = attrs.evolve(x.value, shape=shape)
    if not pad:
        return writer.emit("PAD", (x.index, widths), value, Options("PadOptions"))
    if x.grid is None:
        number = writer.constant("pad", pad, "float32")
    else:
        number = writer.integers("pad", writer.stored(x.grid).store(int(pad)), x.grid)
    inputs = x.index, widths, number
    return writer.emit("PADV2", inputs, value, Options("PadV2Options"))


def pool(writer: Writer, code: str, operation: Any, x: Written, value: Value) -> Written:
    """Write a pool, whose windows have no numbers outside of the image."""
    padding, inside = padding_of(writer, x, operation, operation.pool)
    if inside is not x:
        raise QFrameError(
            f"its padding {list(operation.pads)} is neither 'same' nor 'valid'. Write "
            "keras.layers.ZeroPadding2D before it"
        )
    settings = {
        "Padding": padding,
        "StrideH": operation.strides[0],
        "StrideW": operation.strides[1],
        "FilterHeight": operation.pool[0],
        "FilterWidth": operation.pool[1],
    }
    return writer.emit(code, (x.index,), value, Options("Pool2DOptions", settings))
