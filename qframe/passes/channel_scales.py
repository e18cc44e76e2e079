"""Methods of equalization: the scale of each channel of a group, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.passes.channel_groups import Group, Part, Reader
from qframe.passes.channel_inputs import ChannelStatistics
from qframe.passes.input_rows import is_depthwise, is_matrix, matrix
from qframe.passes.weights import Array, largest, values_of
from qframe.validation import integer_within, positive_number, share_number

Statistics = Mapping[int, ChannelStatistics]
_OWNER = "qframe.equalize"


@attrs.frozen(eq=False)
class Scaling:
    """The scale of each channel of a group.

    Args:
        factors: what readers multiply with, and makers divide by; all positive.
        settings: further texts for the report, by name.
    """

    factors: Array
    settings: Mapping[str, str] = attrs.field(factory=dict)


def _tolerance(value: Any) -> float:
    return positive_number(_OWNER, "tolerance", value)


def _alpha(value: Any) -> float:
    return share_number(_OWNER, "alpha", value)


def _bits(value: Any) -> int:
    return integer_within(_OWNER, "bits", value, 2, 16)


def _sweeps(value: Any) -> int:
    return integer_within(_OWNER, "sweeps", value, 1, 10_000)


def _group_size(value: Any) -> int:
    return integer_within(_OWNER, "group_size", value, 1, 2**31 - 1)


def _grid(value: Any) -> int:
    return integer_within(_OWNER, "grid", value, 1, 1000)


def _rows(value: Any) -> int:
    return integer_within(_OWNER, "rows", value, 1, 2**20)


@attrs.frozen
class CrossLayer:
    """Equal ranges of the weights before and behind each channel."""

    takes_data: ClassVar[bool] = False
    takes_norms: ClassVar[bool] = False
    unchanged: ClassVar[str] = "its channels are equal as they are"
    rows: ClassVar[int] = 0

    sweeps: int = attrs.field(default=20, converter=_sweeps)
    tolerance: float = attrs.field(default=1e-3, converter=_tolerance)

    def refusal(self, group: Group) -> str:
        return ""

    def __call__(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
        values: dict[int, Array] = {}
        for group in groups:
            for part, _ in group.parts():
                if id(part.variable) not in values:
                    values[id(part.variable)] = values_of(part.variable)
        factors = [np.ones(group.count) for group in groups]
        for _ in range(self.sweeps):
            change = 0.0
            for index, group in enumerate(groups):
                makers = [maker.kernel for maker in group.makers if maker.kernel]
                made = _ranges(makers, values, group.count)
                read = _ranges([r.kernel for r in group.readers], values, group.count)
                step = _where_used(made, read, lambda a, b: np.sqrt(a) / np.sqrt(b))
                factors[index] *= step
                for part, divided in group.parts():
                    along = step[part.channels]
                    values[id(part.variable)] *= 1 / along if divided else along
                change = max(change, float(np.abs(step - 1).max(initial=0)))
            if change < self.tolerance:
                break
        return [Scaling(each) for each in factors]


def _ranges(parts: Sequence[Part], values: Mapping[int, Array], count: int) -> Array:
    """The largest weight of each channel."""
    each = [largest(values[id(p.variable)], p.channels, count) for p in parts]
    return np.asarray(np.max(each, axis=0))


def _where_used(a: Array, b: Array, function: Callable[[Array, Array], Array]) -> Array:
    """A function of two magnitudes of each channel; 1 where one of them is 0."""
    used = (a > 0) & (b > 0)
    return np.where(used, function(np.where(used, a, 1), np.where(used, b, 1)), 1.0)


@attrs.frozen
class SmoothQuant:
    """Activations whose outliers the weights behind them take up."""

    takes_data: ClassVar[bool] = True
    takes_norms: ClassVar[bool] = True
    unchanged: ClassVar[str] = "its inputs are as small as its weights"
    rows: ClassVar[int] = 0

    alpha: float = attrs.field(default=0.5, converter=_alpha)

    def refusal(self, group: Group) -> str:
        return ""

    def __call__(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
        return [Scaling(self._factors(group, statistics)) for group in groups]

    def _factors(self, group: Group, statistics: Statistics) -> Array:
        kernels = [reader.kernel for reader in group.readers]
        values = {id(part.variable): values_of(part.variable) for part in kernels}
        return _where_used(
            largest_inputs(group, statistics),
            _ranges(kernels, values, group.count),
            lambda x, w: x**self.alpha / w ** (1 - self.alpha),
        )


def largest_inputs(group: Group, statistics: Statistics) -> Array:
    """The largest input of each channel of a group; 0 where none was seen."""
    result = np.zeros(group.count)
    for reader in group.readers:
        found = statistics.get(id(reader.layer))
        if found is not None:
            np.maximum.at(result, reader.place.channels, found.largest)
    return result


@attrs.frozen
class Awq:
    """Weights of channels with large activations scaled up before they are rounded."""

    takes_data: ClassVar[bool] = True
    takes_norms: ClassVar[bool] = True
    unchanged: ClassVar[str] = "no scale makes the error of its rounding smaller"

    bits: int = attrs.field(default=4, converter=_bits)
    group_size: int = attrs.field(default=128, converter=_group_size)
    grid: int = attrs.field(default=20, converter=_grid)
    rows: int = attrs.field(default=32, converter=_rows)

    def refusal(self, group: Group) -> str:
        layers = [reader.layer for reader in group.readers]
        for layer in layers:
            if not is_matrix(layer) and not is_depthwise(layer):
                return f"the error of {layer.name!r} is not that of one matrix"
        if all(map(is_depthwise, layers)):
            return "each of its numbers reads one channel, whose scale changes no error"
        return ""

    def __call__(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
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


METHODS: Mapping[str, Any] = {
    "cle": CrossLayer,
    "smoothquant": SmoothQuant,
    "awq": Awq,
}
