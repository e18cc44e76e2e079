"""Methods of equalization: the scale of each channel of a group, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.passes.equalization.activation_aware import Awq
from qframe.passes.equalization.channel_groups import Group, Part
from qframe.passes.equalization.scaling import (
    OWNER,
    Method,
    Scaling,
    Statistics,
    largest_inputs,
)
from qframe.passes.weights import Array, largest, values_of
from qframe.validation import integer_within, positive_number, share_number


def _tolerance(value: Any) -> float:
    return positive_number(OWNER, "tolerance", value)


def _alpha(value: Any) -> float:
    return share_number(OWNER, "alpha", value)


def _sweeps(value: Any) -> int:
    return integer_within(OWNER, "sweeps", value, 1, 10_000)


@attrs.frozen
class CrossLayer(Method):
    """Equal ranges of the weights before and behind each channel."""

    unchanged: ClassVar[str] = "its channels are equal as they are"

    sweeps: int = attrs.field(default=20, converter=_sweeps)
    tolerance: float = attrs.field(default=1e-3, converter=_tolerance)

    def scalings(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
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
class SmoothQuant(Method):
    """Activations whose outliers the weights behind them take up."""

    takes_data: ClassVar[bool] = True
    takes_norms: ClassVar[bool] = True
    unchanged: ClassVar[str] = "its inputs are as small as its weights"

    alpha: float = attrs.field(default=0.5, converter=_alpha)

    def scalings(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
        return [Scaling(self._factors(group, statistics)) for group in groups]

    def _factors(self, group: Group, statistics: Statistics) -> Array:
        kernels = [reader.kernel for reader in group.readers]
        values = {id(part.variable): values_of(part.variable) for part in kernels}
        return _where_used(
            largest_inputs(group, statistics),
            _ranges(kernels, values, group.count),
            lambda x, w: x**self.alpha / w ** (1 - self.alpha),
        )


METHODS: Mapping[str, Any] = {
    "cle": CrossLayer,
    "smoothquant": SmoothQuant,
    "awq": Awq,
}
