"""Activation-aware scales of weights (AWQ), in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.passes.equalization.channel_groups import Group, Reader
from qframe.passes.equalization.channel_inputs import ChannelStatistics
from qframe.passes.equalization.input_rows import is_depthwise, is_matrix, matrix
from qframe.passes.equalization.scaling import OWNER, Method, Scaling, Statistics
from qframe.passes.weights import Array, values_of
from qframe.validation import integer_within


def _bits(value: Any) -> int:
    return integer_within(OWNER, "bits", value, 2, 16)


def _group_size(value: Any) -> int:
    return integer_within(OWNER, "group_size", value, 1, 2**31 - 1)


def _grid(value: Any) -> int:
    return integer_within(OWNER, "grid", value, 1, 1000)


def _rows(value: Any) -> int:
    return integer_within(OWNER, "rows", value, 1, 2**20)


@attrs.frozen
class Awq(Method):
    """Weights of channels with large activations scaled up before they are rounded."""

    takes_data: ClassVar[bool] = True
    takes_norms: ClassVar[bool] = True
    unchanged: ClassVar[str] = "no scale makes the error of its rounding smaller"

    bits: int = attrs.field(default=4, converter=_bits)
    group_size: int = attrs.field(default=128, converter=_group_size)
    grid: int = attrs.field(default=20, converter=_grid)
    rows: int = attrs.field(default=32, converter=_rows)

    @property
    def sampled_rows(self) -> int:
        return self.rows

    def refusal(self, group: Group) -> str:
        layers = [reader.layer for reader in group.readers]
        for layer in layers:
            if not is_matrix(layer) and not is_depthwise(layer):
                return f"the error of {layer.name!r} is not that of one matrix"
        if all(map(is_depthwise, layers)):
            return "each of its numbers reads one channel, whose scale changes no error"
        return ""

    def scalings(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
        return [self._scaling(group, statistics) for group in groups]

    def _scaling(self, group: Group, statistics: Statistics) -> Scaling:
        mean = _mean_inputs(group, statistics)
        products = [
            _Product.of(reader, statistics[id(reader.layer)])
            for reader in group.readers
            if is_matrix(reader.layer)
        ]
        exponents = np.arange(self.grid + 1) / self.grid
        factors = [awq_factors(mean, exponent) for exponent in exponents]
        errors = [
            sum(each.error(scale, self.bits, self.group_size) for each in products)
            for scale in factors
        ]
        best = int(np.argmin(errors))
        ratio = errors[best] / errors[0] if errors[0] else 1.0
        settings = {
            "exponent": f"{exponents[best]:.3g}",
            "error": f"{ratio:.3g} of that without",
        }
        return Scaling(factors[best], settings if best else {})


def awq_factors(mean: Array, exponent: float) -> Array:
    """The scales of channels by their mean magnitudes; 1 for one that is always 0."""
    used = mean > 0
    scale = np.where(used, mean, 1) ** exponent
    ends = scale[used].min(initial=np.inf), scale[used].max(initial=0)
    middle = np.sqrt(ends[0]) * np.sqrt(ends[1]) if used.any() else 1.0
    return np.where(used, scale / middle, 1.0)


def _mean_inputs(group: Group, statistics: Statistics) -> Array:
    """The mean magnitude of each channel of a group."""
    total, count = np.zeros(group.count), np.zeros(group.count)
    for reader in group.readers:
        np.add.at(total, reader.place.channels, statistics[id(reader.layer)].mean)
        np.add.at(count, reader.place.channels, 1)
    return total / np.maximum(count, 1)


@attrs.frozen(eq=False)
class _Product:
    """A layer of products as a matrix, and the second moments of its inputs."""

    kernel: Array
    channels: Any
    moments: Array

    @classmethod
    def of(cls, reader: Reader, statistics: ChannelStatistics) -> _Product:
        values = values_of(reader.kernel.variable)
        channels = np.broadcast_to(reader.kernel.channels, values.shape)
        x = np.asarray(statistics.rows, np.float64)
        of_inputs = matrix(reader.layer, channels)[:, 0]
        return cls(matrix(reader.layer, values), of_inputs, x.T @ x)

    def error(self, factors: Array, bits: int, group_size: int) -> float:
        """The squared error of the outputs once the scaled kernel is rounded."""
        scale = factors[self.channels][:, None]
        change = rounded(self.kernel * scale, bits, group_size) / scale - self.kernel
        return float(np.sum(change * (self.moments @ change)))


def rounded(kernel: Array, bits: int, group_size: int) -> Array:
    """A matrix (inputs, outputs) rounded in groups of inputs, symmetrically."""
    top = 2 ** (bits - 1) - 1
    result = np.empty_like(kernel)
    for start in range(0, len(kernel), group_size):
        part = kernel[start : start + group_size]
        step = np.abs(part).max(axis=0, initial=0) / top
        step = np.where(step > 0, step, 1.0)
        result[start : start + group_size] = np.rint(part / step) * step
    return result
