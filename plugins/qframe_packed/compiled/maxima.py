"""Max pools of 2x2 codes right behind a product: the largest of 4 sums in a chunk.

The functions that follow the sums, up to the pool, keep their order, or turn it round in
channels with a negative scale. So they are computed of the largest sum, or of the smallest
one, and give the same number.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.operations import MaxPool
from qframe_packed.compiled.dots import Dot
from qframe_packed.compiled.elementwise import Elementwise
from qframe_packed.compiled.gemm import Gemm
from qframe_packed.compiled.levels import Nearest
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.tiles import TILES

Array = NDArray[Any]
_PIXELS = 4


def with_maxima(kernel: Any, pool: MaxPool, shape: tuple[int, ...]) -> Gemm | None:
    """The kernel with the pool of its result, of this shape; None if it cannot have it."""
    if not isinstance(kernel, Gemm) or not isinstance(TILES[kernel.tile].kind, Dot):
        return None
    plain = pool.direction is None and not any(pool.pads)
    signs = _signs(kernel)
    if not plain or (*pool.pool, *pool.strides) != (2, 2, 2, 2) or signs is None:
        return None
    # Chunks of whole tiles, and of whole windows.
    part = math.lcm(_PIXELS, kernel.tile_pixels)
    chunk = max(1, kernel.chunk // part) * part
    places = _windows(np.arange(kernel.pixels).reshape(shape[:2]))
    return attrs.evolve(
        kernel,
        windows=kernel.windows[places],
        classes=kernel.classes[places],
        pixels=len(places),
        values=Buffer(0, 4 * chunk * kernel.width),
        addresses=Buffer(0, 24 * chunk),
        chunk=chunk,
        pooled=_PIXELS,
        signs=signs,
    )


def _windows(pixels: Array) -> Array:
    """Pixels (row, column), those of a window one after the other."""
    rows, columns = (size // 2 for size in pixels.shape)
    inside = pixels[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return inside.transpose(0, 2, 1, 3).reshape(-1)


def _signs(kernel: Gemm) -> Array | None:
    """The sign bit of each channel whose order is turned; None if a stage may keep none."""
    signs = aligned((kernel.width,), np.int32)
    for stage in kernel.epilogue.stages:
        if isinstance(stage, Nearest):
            continue
        name = stage.label if isinstance(stage, Elementwise) else ""
        first, second = (np.asarray(getattr(stage, n, 0)) for n in ("first", "second"))
        if name == "affine" and np.isfinite((first, second)).all():
            signs[: len(first)] ^= np.where(first < 0, np.int32(-(2**31)), np.int32(0))
        elif name != "relu" or first.any():
            return None
    return signs
