"""Measures of noise: relative error, signal-to-noise ratio and cosine."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen
class Noise:
    """The noise of a signal.

    Args:
        signal: the sum of the squares of the signal.
        noise: the sum of the squares of the noise.
        product: the sum of the products of the numbers without and with noise.
    """

    COLUMNS: ClassVar = ("SQNR\n(dB)", "Relative\nerror", "Cosine")

    signal: float
    noise: float
    product: float

    @classmethod
    def between(cls, before: NDArray[Any], after: NDArray[Any]) -> Noise:
        """Measure the noise that turns one array into another."""
        a, b = (np.asarray(x, np.float64) for x in (before, after))
        sums = np.square(a).sum(), np.square(b - a).sum(), (a * b).sum()
        return cls(*map(float, sums))

    @property
    def relative_error(self) -> float | None:
        """The root of noise by signal; None where it is not finite."""
        if self.noise == 0:
            return 0.0
        ratio = self.noise / self.signal if self.signal else math.inf
        return math.sqrt(ratio) if math.isfinite(ratio) else None

    @property
    def decibels(self) -> float | None:
        """``10 log10(signal / noise)``; None where it is not finite."""
        error = self.relative_error
        return 0.0 - 20 * math.log10(error) if error else None

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between both, for any scale; None for zeros."""
        # |a + n|^2 = |a|^2 + |n|^2 + 2 an, and an = ab - |a|^2.
        after = self.noise - self.signal + 2 * self.product
        norm = math.sqrt(self.signal * after) if self.signal > 0 and after > 0 else 0.0
        return self.product / norm if norm and math.isfinite(norm) else None

    def to_dict(self) -> dict[str, float | None]:
        """Return the figures as JSON types."""
        return {
            "relative_error": self.relative_error,
            "sqnr_db": self.decibels,
            "cosine": self.cosine,
        }

    def cells(self) -> list[str]:
        """Return the cells of a table below `COLUMNS`."""
        pairs = [(self.decibels, ".1f"), (self.relative_error, ".3g"), (self.cosine, ".4f")]
        cells = ["?" if value is None else format(value, spec) for value, spec in pairs]
        return ["exact", *cells[1:]] if self.noise == 0 else cells

    @property
    def rank(self) -> float:
        """The key that sorts the worst first."""
        if self.decibels is not None:
            return self.decibels
        return math.inf if self.noise == 0 else -math.inf
