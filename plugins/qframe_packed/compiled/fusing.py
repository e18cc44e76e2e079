"""Fusing of the stages that lead to what is stored: one pass over the numbers."""

from __future__ import annotations

from typing import Any

import attrs

from qframe_packed.compiled.adding import AddCodes
from qframe_packed.compiled.coding import Encode
from qframe_packed.compiled.elementwise import Elementwise
from qframe_packed.compiled.epilogue import Store
from qframe_packed.compiled.finishing import LARGEST, Finish, Residual
from qframe_packed.compiled.gemm import Pointwise
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.levels import Nearest
from qframe_packed.compiled.parameters import Parameters

# The most numbers that are rounded as one pixel.
_WIDE = 2**11


def fused(stages: list[Parameters], channels: int) -> list[Parameters]:
    """The stages of an epilogue, of which the last ones are fused if they store numbers.

    These are `Nearest` and each `Encode` that follows, and before them, in this order, as
    many as there are of an affine function, a sum, a ReLU and a `Store`.
    """
    before = [*stages]
    codes: list[Encode] = []
    while before and isinstance(before[-1], Encode):
        codes.insert(0, before.pop())  # type: ignore[arg-type]
    rounding: Any = before.pop() if codes and before else None
    if codes and not (isinstance(rounding, Nearest) and _fits(rounding)):
        return stages
    parts: dict[str, Any] = {}
    stored: Any = before.pop() if before and isinstance(before[-1], Store) else None
    if not codes and stored is None:
        return stages
    if _is(before, "relu") and not before[-1].first.any():  # type: ignore[attr-defined]
        parts["most"] = float(before.pop().second[0])  # type: ignore[attr-defined]
    added: Any = None
    if before and (isinstance(before[-1], AddCodes) or _is(before, "add")):
        added = before.pop()
    if _is(before, "affine"):
        affine: Any = before.pop()
        parts["scale"], parts["shift"] = affine.first[:channels], affine.second[:channels]
    outs = [(stage.out, stage.image) for stage in codes] or [(0, _image(added, channels))]
    if added is not None:
        coded = isinstance(added, AddCodes)
        parts["residual"] = added.residual if coded else _residual(added, outs[0][1])
    for place, (out, image) in enumerate(outs, 1):
        if stored is not None and place == len(outs):
            # They may take the place of what is added, so nothing reads that again.
            parts["floats"] = stored.out
        before.append(Finish.of(channels, rounding, out, image, **parts))
    return before


def widened(kernel: Pointwise) -> Pointwise:
    """A kernel that only rounds, for pixels that are wide enough to fill registers."""
    match kernel.epilogue.stages:
        case [Nearest() as rounding, Encode(image=image) as codes] if not image.is_padded:
            most = min(kernel.pixels, _WIDE // kernel.channels)
            many = next((n for n in range(most, 1, -1) if kernel.pixels % n == 0), 1)
            pixels, channels = kernel.pixels // many, kernel.channels * many
            wide = Pointwise.of(kernel.source, pixels, channels)
            image = Image.of_codes((1, pixels, channels), (0, 0, 0, 0))
            wide.epilogue.step = kernel.epilogue.step
            wide.epilogue.extend(
                kernel.epilogue.last, rounding, attrs.evolve(codes, image=image)
            )
            return wide
    return kernel


def _fits(rounding: Nearest) -> bool:
    return max(abs(rounding.low), abs(rounding.high)) <= LARGEST


def _is(stages: list[Parameters], function: str) -> bool:
    """Return whether the last stage applies a function."""
    last = stages[-1] if stages else None
    return isinstance(last, Elementwise) and last.label == function


def _residual(stage: Any, image: Image) -> Residual:
    """The tensor of floats that a stage adds, whose codes are in an image."""
    size = image.height, image.width, image.items
    return Residual(stage.first, Image.of(size, (0, 0, 0, 0)))


def _image(added: Any, channels: int) -> Image:
    """The layout of no codes, with the pixels of what is added."""
    pixels = (1, 1)
    if isinstance(added, AddCodes):
        pixels = added.residual.image.height, added.residual.image.width
    return Image.of_codes((*pixels, channels), (0, 0, 0, 0))
