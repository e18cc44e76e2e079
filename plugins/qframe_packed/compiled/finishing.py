"""Finishing of sums in one pass, in registers: affine, residual, clamp, rounding to codes.

A `Finish` describes it, and is a stage of an epilogue at the same time. Other kernels emit
it for sums that are still in registers: see `Emission`. Each number becomes ::

    y = x * scale + shift            two roundings, x being a float or an int32
    y = y + residual                 a float, or the number of a code: c * scale + shift
    y = min(max(y, least), most)     as relu does: NaN becomes `least`
    floats = y
    code = clip(rint(y * factor / divisor), low, high) - low      NaN becomes 0

to the bit as NumPy computes it in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.operations import Activation, Affine
from qframe_packed.compiled.finishing_code import body
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.parameters import Address, Parameters, Record
from qframe_packed.compiled.rounding import LANES

Array = NDArray[Any]
_ALL, _CODES_ALONE = body(alone=False), body(alone=True)
# The largest integer, in absolute value, that a number is rounded to.
LARGEST = 2**15 - 1


@attrs.frozen(eq=False)
class Residual(Record):
    """A tensor that is added: floats, or codes in an image.

    The number of a code is ``(code * step + low) * scale + shift``.
    """

    source: Address
    image: Image
    codes: bool
    step: float = 1.0
    low: float = 0.0
    scale: float = 1.0
    # The only number that changes no other, and no zero.
    shift: float = -0.0


@attrs.frozen(eq=False)
class Finish(Parameters):
    """A stage that finishes the numbers of pixels in one pass.

    The address of a tensor is 0 where there is none. The sizes of the images of `codes` and
    of the residual are the same, and their padding is not.
    """

    scale: Address  # a number for each channel, up to whole registers
    shift: Address
    image: Image  # of the codes
    residual: Residual
    codes: Address = 0
    floats: Address = 0  # (pixel, channel)
    in_place: bool = False  # the floats replace the numbers, for the stages that follow
    least: float = -np.inf
    most: float = np.inf
    clamps: bool = False
    factor: float = 1.0
    multiplies: bool = False
    divisor: float = 1.0
    divides: bool = False
    bottom: float = 0.0  # bounds of the rounded numbers
    top: float = 0.0
    low: int = 0  # the number of the code 0
    label = "finish"

    @classmethod
    def of(
        cls,
        channels: int,
        affine: Affine,
        residual: Residual | None = None,
        clamp: tuple[float, float] | None = None,
        floats: Buffer | None = None,
        in_place: bool = False,
        rounding: Any = None,
        codes: Buffer | None = None,
        image: Image | None = None,
    ) -> Finish:
        """The stage for the operations of a chain.

        Args:
            channels: of a pixel.
            affine: the affine operation; one without scale and shift changes nothing.
            residual: what is added; None if nothing is.
            clamp: the least and the most number that are left, as `clamp_of` returns it.
            floats: the buffer that stores the floats, (pixel, channel).
            in_place: whether the floats replace the numbers, for the stages that follow.
            rounding: the operation `Round`, whose `low` and `high` are at most LARGEST.
            codes: the buffer that stores its codes.
            image: the layout of the codes; it is needed for a residual of codes too.
        """
        image = image or Image.of_codes((1, 1, channels), (0, 0, 0, 0))
        width = -(-channels // LANES) * LANES
        least, most = clamp or (-np.inf, np.inf)
        ends: dict[str, Any] = {}
        if rounding is not None:
            factor, divisor = np.float32(rounding.factor), np.float32(rounding.divisor)
            low, high = rounding.low, rounding.high
            if floats is None and not in_place and clamp is not None:
                # Nothing but the codes sees a number that is not clamped.
                with np.errstate(over="ignore"):
                    bounds = np.rint(np.array(clamp, np.float32) * factor / divisor)
                low, high = (int(end) for end in np.clip(bounds, low, high))
                clamp = None
            ends = {"factor": factor, "multiplies": bool(factor != 1)}
            ends |= {"divisor": divisor, "divides": bool(divisor != 1)}
            ends |= {"bottom": low, "top": high, "low": rounding.low}
        return cls(
            scale=_row(1 if affine.scale is None else affine.scale, channels, width),
            shift=_row(-0.0 if affine.shift is None else affine.shift, channels, width),
            image=image,
            residual=residual or Residual(0, image, False),
            codes=0 if codes is None else codes,
            floats=0 if floats is None else floats,
            in_place=in_place,
            least=least,
            most=most,
            clamps=clamp is not None,
            **ends,
        )

    @property
    def gives_codes_alone(self) -> bool:
        """Whether it adds no residual, and returns nothing but codes."""
        codes, others = (self.codes,), (self.residual.source, self.floats)
        places = [not (isinstance(x, int) and x == 0) for x in (*codes, *others)]
        return places == [True, False, False] and not self.in_place

    def reordered(self, order: Callable[[Array], Array], channels: int) -> Finish:
        """The stage for channels in another order."""
        scale, shift = (order(part[:channels]) for part in (self.scale, self.shift))
        return attrs.evolve(self, scale=scale, shift=shift)

    @property
    def body(self) -> Any:
        return _CODES_ALONE if self.gives_codes_alone else _ALL


def clamp_of(activation: Activation) -> tuple[float, float] | None:
    """The bounds of a clamp that is this activation; None if no clamp is."""
    if activation.function != "relu" or activation.alpha or activation.threshold:
        return None
    return 0.0, np.inf if activation.most is None else activation.most


def _row(numbers: Any, channels: int, width: int) -> Any:
    """One number, or one for each channel, in a row of this width."""
    row = aligned((width,), np.float32)
    row[:channels] = np.asarray(numbers, np.float32)
    return row
