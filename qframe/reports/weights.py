"""What quantization makes of each weight of a model."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.layers.weights import QuantizedWeight
from qframe.models.precision import quantizer_bits
from qframe.reports.noise import Noise
from qframe.reports.saturation import at_the_ends

_BINS = 48


@attrs.frozen(eq=False)
class Histogram:
    """How often numbers are where, before and after they are quantized.

    Args:
        edges: of the bins, ascending, one more than there are bins.
        before: how many numbers are in each bin.
        after: how many are once they are quantized.
    """

    edges: NDArray[np.float64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def of(cls, before: NDArray[Any], after: NDArray[Any]) -> Histogram:
        """Count the finite numbers of two arrays in the same bins."""
        both = np.concatenate([before.ravel(), after.ravel()]).astype(np.float64)
        both = both[np.isfinite(both)]
        ends = (both.min(), both.max()) if both.size else (0.0, 0.0)
        edges = np.histogram_bin_edges(both, _BINS, ends)
        return cls(edges, *(np.histogram(x, edges)[0] for x in (before, after)))


@attrs.frozen(eq=False)
class WeightReport:
    """A weight under its quantizer.

    Args:
        path: of the layer, and the attribute, such as ``"dense/kernel"``.
        quantizer: its quantizer.
        bits: what that declares; None where it does not.
        count: how many numbers it has.
        noise: the latent numbers, and the error of the quantized ones.
        saturation: the part of the numbers that are at an end of the grid.
        histogram: the latent and the quantized numbers.
    """

    path: str
    quantizer: str
    bits: int | None
    count: int
    noise: Noise
    saturation: float
    histogram: Histogram

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "path": self.path,
            "quantizer": self.quantizer,
            "bits": self.bits,
            "count": self.count,
            **self.noise.to_dict(),
            "saturation": self.saturation,
        }


def weights_of(model: Any) -> tuple[WeightReport, ...]:
    """Of each quantized weight of a built model, in call order."""
    return tuple(_report(weight) for weight in QuantizedWeight.of(model))


def _report(weight: QuantizedWeight) -> WeightReport:
    before, after, quantizer = weight.latent(), weight.values(), weight.quantizer
    ends = at_the_ends(quantizer, before, after, weight.channel_axis)
    arrays = [_array(x) for x in (before, after)]
    bits = quantizer_bits(quantizer)
    return WeightReport(
        weight.path,
        repr(quantizer),
        bits if isinstance(bits, int) else None,
        arrays[0].size,
        Noise.between(*arrays),
        float(ops.convert_to_numpy(ends).mean()),
        Histogram.of(*arrays),
    )


def _array(tensor: Any) -> NDArray[Any]:
    # NumPy has no bfloat16 of its own.
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))
