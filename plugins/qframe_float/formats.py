"""Low-bit floating-point formats: numbers, bit patterns and rounding."""

from __future__ import annotations

import functools
import math
from typing import Any

import attrs
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.quantizers import clip_through

SPECIALS = ("none", "nan", "ieee")


@attrs.frozen(slots=False)
class Format:
    """A sign, an exponent and a mantissa, with subnormal numbers.

    Args:
        exponent_bits: of the exponent, 1 to 5, so that every number fits into an int64 of
            units.
        mantissa_bits: of the mantissa, without the implicit leading 1.
        specials: the patterns that do not encode numbers: "none", the last one ("nan"),
            or those of the largest exponent ("ieee").
        bias: of the exponent; by default that of IEEE 754.
    """

    exponent_bits: int
    mantissa_bits: int
    specials: str = "none"
    bias: int = attrs.field()

    @bias.default
    def _ieee(self) -> int:
        return int(2 ** (self.exponent_bits - 1) - 1)

    @property
    def bits(self) -> int:
        """The bits of one number."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def normal(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def unit(self) -> float:
        """The smallest positive number, of which every number is a multiple."""
        return self.normal * 2.0**-self.mantissa_bits

    @functools.cached_property
    def multiples(self) -> NDArray[np.int64]:
        """The numbers from 0 upward, in units; the index of each is its bit pattern."""
        e, m = self.exponent_bits, self.mantissa_bits
        count = 2 ** (e + m) - {"none": 0, "nan": 1, "ieee": 2**m}[self.specials]
        exponent, mantissa = np.divmod(np.arange(count, dtype=np.int64), 2**m)
        leading = np.where(exponent > 0, 2**m, 0)
        units: NDArray[np.int64] = (leading + mantissa) << np.maximum(exponent - 1, 0)
        return units

    @functools.cached_property
    def signed_multiples(self) -> tuple[float, ...]:
        """Every number in units, ascending."""
        positive = self.multiples[1:].astype(float)
        return (*(-positive[::-1]).tolist(), 0.0, *positive.tolist())

    @property
    def largest(self) -> float:
        """The largest number."""
        return float(self.multiples[-1]) * self.unit

    @property
    def largest_exponent(self) -> int:
        """The exponent of the largest number."""
        return math.frexp(self.largest)[1] - 1

    def rounded(self, x: Any, noise: Any = None) -> Any:
        """Round to the nearest number, ties to even, and saturate. NaN stays NaN.

        Args:
            x: a tensor of float32 or float64.
            noise: uniform in [0, 1), of the shape of `x`, for unbiased stochastic rounding;
                None rounds to the nearest.
        """
        x = clip_through(x, -self.largest, self.largest)
        power = power_below(ops.abs(x), self.normal, self.exponent_bits)
        step = power * 2.0**-self.mantissa_bits
        steps = x / step
        if noise is None:
            return ops.round(steps) * step
        low = ops.floor(steps)
        # Compare: an addition of the noise would round.
        up = ops.cast(ops.less(noise, steps - low), x.dtype)
        return (low + up) * step

    def reference(self, x: NDArray[Any]) -> NDArray[Any]:
        """The NumPy reference of `rounded` to the nearest."""
        x = np.clip(x, -self.largest, self.largest)
        exponent = np.maximum(np.frexp(x)[1] - 1, 1 - self.bias)
        step = np.ldexp(x.dtype.type(1), exponent - self.mantissa_bits)
        nearest: NDArray[Any] = np.rint(x / step) * step
        return nearest

    def patterns(self, multiples: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
        """The bit patterns of numbers in units; 0 becomes +0."""
        wide = multiples.astype(np.int64)
        patterns = np.searchsorted(self.multiples, np.abs(wide))
        patterns += np.where(wide < 0, 2 ** (self.bits - 1), 0)
        return patterns.astype(np.uint8 if self.bits <= 8 else np.uint16)


def power_below(x: Any, start: Any, bits: int) -> Any:
    """The largest power of two up to `x`, and at least `start`.

    It compares and doubles, which is exact on every backend, unlike a logarithm.

    Args:
        x: a tensor, not negative.
        start: a power of two, a number or a tensor like `x`.
        bits: of the largest number of doublings.
    """
    power = ops.ones_like(x) * start
    for bit in reversed(range(bits)):
        higher = power * 2.0 ** (2**bit)
        power = ops.where(ops.greater_equal(x, higher), higher, power)
    return power
