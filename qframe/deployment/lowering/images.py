"""The lowering of pools, padding and up-sampling of images and sequences.

A sequence is an image of one row.
"""

from __future__ import annotations

from typing import Any

from qframe.deployment.graph import operations
from qframe.deployment.lowering.shapes import (
    add_repeat,
    add_reshape,
    as_before,
    as_image,
    of_image,
)
from qframe.deployment.lowering.tracing import Lowering, Traced, Tracer
from qframe.errors import QFrameError
from qframe.layers.padding import window_pads


def pads_of(
    padding: str, shape: tuple[int, ...], reach: Any, strides: Any
) -> tuple[int, int, int, int]:
    """The padding of Keras: top, bottom, left, right. The smaller half comes first."""
    (top, bottom), (left, right) = window_pads(padding, shape[:2], reach, strides)
    return top, bottom, left, right


def max_pooling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the maximum of windows, of integers too."""
    # Scales are positive, so that the largest integer is the largest number.
    return _pooling(tracer, layer, inputs[0], operations.MaxPool)


def average_pooling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the mean of windows."""
    return _pooling(tracer, layer, tracer.real(inputs[0]), operations.AveragePool)


def _pooling(tracer: Tracer, layer: Any, x: Traced, kind: Any) -> Traced:
    image = as_image(tracer, x)
    pool, strides = of_image(layer.pool_size), of_image(layer.strides)
    pads = pads_of(layer.padding, image.shape, pool, strides)
    pooled = tracer.add(kind(pool=pool, strides=strides, pads=pads), image)
    return as_before(tracer, pooled, x)


def add_global_pool(tracer: Tracer, x: Traced, function: str, keepdims: bool) -> Traced:
    """Add the largest number or the mean of each channel."""
    x = x if function == "max" else tracer.real(x)
    pooled = tracer.add(operations.GlobalPool(function=function), x)
    ones = (1,) * (len(x.shape) - 1) if keepdims else ()
    return add_reshape(tracer, pooled, (*ones, *pooled.shape))


def _global_pooling(function: str) -> Lowering:
    def lowered(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
        return add_global_pool(tracer, inputs[0], function, layer.keepdims)

    return lowered


global_average, global_maximum = _global_pooling("average"), _global_pooling("max")


def zero_padding(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add zeros around a sequence or an image."""
    x = tracer.real(inputs[0])
    pairs = layer.padding if len(x.shape) == 3 else ((0, 0), layer.padding)
    pad = operations.Pad(pads=(*pairs[0], *pairs[1]))
    return as_before(tracer, tracer.add(pad, as_image(tracer, x)), x)


def up_sampling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a larger image, of repeated numbers or of those between them."""
    (x,) = inputs
    size = of_image(layer.size)
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation == "nearest":
        y = as_image(tracer, x)
        for axis, count in enumerate(size, 1):
            y = add_repeat(tracer, y, axis, count)
        return as_before(tracer, y, x)
    if interpolation != "bilinear":
        raise QFrameError(
            f"its interpolation is {interpolation!r}. Build it with "
            "interpolation='nearest' or 'bilinear'"
        )
    height, width, _ = x.shape
    resize = operations.Resize(size=(height * size[0], width * size[1]))
    return tracer.add(resize, tracer.real(x))
