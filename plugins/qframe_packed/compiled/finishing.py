"""Finishing of sums in one pass, in registers: affine, residual, ReLU, rounding to codes.

A `Finish` describes it, and is a stage of an epilogue at the same time. Other kernels emit
it for sums that are still in registers: see `Emission`. Each number becomes ::

    y = x * scale + shift         two roundings; x is a float or an int32
    y = y + residual              a float, or the number of a code
    y = min(max(y, 0), most)      NaN becomes 0
    floats = y
    code = clip(rint(y * factor / divisor), low, high) - low      NaN becomes 0

to the bit as NumPy computes it in float32. All parts are optional.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled.elementwise import NO_SHIFT
from qframe_packed.compiled.finishing_code import IN_REGISTERS, body
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.levels import Nearest
from qframe_packed.compiled.memory import aligned
from qframe_packed.compiled.parameters import Address, Parameters, Record
from qframe_packed.compiled.quotients import Quotient
from qframe_packed.compiled.rounding import LANES

Array = NDArray[Any]
_BODIES = {form: body(form) for form in ("all", *IN_REGISTERS)}
# What rounds numbers that are not stored as codes.
_ANY = Nearest(1, 1, 0, 1)
# The largest integer, in absolute value, that a number is rounded to.
LARGEST = 2**15 - 1


@attrs.frozen(eq=False)
class Residual(Record):
    """A tensor that is added: floats, or codes in an image.

    The number of a code is ``(code * unit + low) * scale + shift``.
    """

    source: Address
    image: Image
    codes: bool = False
    unit: float = 1.0
    low: float = 0.0
    scale: float = 1.0
    shift: float = NO_SHIFT


@attrs.frozen(eq=False)
class Finish(Parameters):
    """A stage that finishes the numbers of pixels in one pass.

    The images of the codes and of the residual differ at most in their padding.
    """

    scale: Address  # a number for each channel, up to whole registers
    shift: Address
    residual: Residual  # its address is 0 without one
    rectifies: bool
    most: float  # after the ReLU
    floats: Address  # (pixel, channel); 0 if they are not stored
    factor: float
    divisor: float
    quotient: Quotient
    bottom: float  # the bounds of rounded numbers
    top: float
    low: int  # the number of the code 0
    codes: Address  # 0 if they are not stored
    image: Image
    label = "finish"

    @classmethod
    def of(
        cls,
        channels: int,
        rounding: Nearest | None,
        codes: Address,
        image: Image,
        scale: Any = 1,
        shift: Any = NO_SHIFT,
        residual: Residual | None = None,
        most: float | None = None,
        floats: Address = 0,
    ) -> Finish:
        """The stage for parts of a chain.

        Args:
            channels: of a pixel.
            rounding: the last part, to at most 256 levels that are at most LARGEST; None
                without codes.
            codes: what stores the codes; 0 without them.
            image: the layout of the codes.
            scale: one number, or one for each channel.
            shift: one number, or one for each channel.
            residual: what is added; None if nothing is.
            most: the most number that a ReLU leaves; None without a ReLU.
            floats: what stores the numbers before they are rounded.
        """
        rounding = rounding or _ANY
        factor, divisor = np.float32(rounding.factor), np.float32(rounding.divisor)
        rectifies, ends = most is not None, (rounding.low, rounding.high)
        bottom, top = ends
        if most is not None and isinstance(floats, int):
            # Only the codes depend on the ReLU, which is a clip of them too.
            with np.errstate(over="ignore"):
                bounds = np.array([min(0, most), most], np.float32)
                bounds = np.rint(bounds * factor / divisor)
            (bottom, top), rectifies = np.clip(bounds, *ends).tolist(), False
        return cls(
            scale=_row(scale, channels),
            shift=_row(shift, channels),
            residual=residual or Residual(0, image),
            rectifies=rectifies,
            most=np.inf if most is None else most,
            floats=floats,
            factor=float(factor),
            divisor=float(divisor),
            quotient=Quotient.of(factor, divisor, bottom, top),
            bottom=bottom,
            top=top,
            low=int(rounding.low),
            codes=codes,
            image=image,
        )

    @property
    def form(self) -> str:
        """What it gives: one of IN_REGISTERS, or all that its fields say."""
        parts = self.codes, self.floats, self.residual.source
        codes, floats, added = (not isinstance(part, int) for part in parts)
        if added or codes == floats:
            return "all"
        return "codes" if codes else "floats"

    def reordered(self, order: Callable[[Array], Array], channels: int) -> Finish:
        """The stage for channels in another order."""
        scale, shift = (order(part[:channels]) for part in (self.scale, self.shift))
        return attrs.evolve(self, scale=scale, shift=shift)

    @property
    def body(self) -> Any:
        return _BODIES[self.form]


def _row(numbers: Any, channels: int) -> Array:
    """One number, or one for each channel, in a row of whole registers."""
    row = aligned((-(-channels // LANES) * LANES,), np.float32)
    row[:channels] = np.asarray(numbers, np.float32)
    return row


# Of kernels whose sums an epilogue finishes.
NOTHING = Finish.of(1, None, 0, Image.of_codes((1, 1, 1), (0, 0, 0, 0)))
