"""The weights of equalized layers, and the groups whose numbers do not fit their dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qframe.errors import QFrameError
from qframe.passes.equalization.channel_groups import Group
from qframe.passes.equalization.grouping import Groups
from qframe.passes.equalization.scaling import Method, Scaling, Statistics, largest_inputs
from qframe.passes.weights import (
    Array,
    check_digits,
    check_fits,
    dtypes_of,
    largest,
    values_of,
)

Scaled = tuple[Group, Scaling]


def fitting(
    found: Groups, chosen: Method, statistics: Statistics
) -> tuple[list[Scaled], bool]:
    """The groups that change and whose scaled numbers fit their dtypes, with their scales.

    The second result is whether others remain as they are, since no scale is better.
    """
    found.drop(_not_finite)
    while True:
        scalings = chosen.scalings(found.groups, statistics)
        scaled = list(zip(found.groups, scalings, strict=True))
        values = new_values(scaled)
        unfit = ((g, _unfit(g, s, values, statistics)) for g, s in _widest_first(scaled))
        first = next((each for each in unfit if each[1]), None)
        if first is None:
            break
        # The others may fit without this one, which shares weights with them.
        found.remove(*first)
    equal = {id(group) for group, scaling in scaled if (scaling.factors == 1).all()}
    found.drop(lambda group: chosen.unchanged if id(group) in equal else "")
    return [each for each in scaled if id(each[0]) not in equal], bool(equal)


def _widest_first(scaled: Sequence[Scaled]) -> list[Scaled]:
    """Groups in the order of how far their scales are from 1, the furthest first."""

    def extent(each: Scaled) -> float:
        return float(np.abs(np.log(each[1].factors)).max(initial=0))

    return sorted(scaled, key=extent, reverse=True)


def _not_finite(group: Group) -> str:
    for part, _ in group.parts():
        if not np.isfinite(values_of(part.variable)).all():
            return f"the numbers of {part.layer.name!r} are not finite"
    return ""


def new_values(scaled: Sequence[Scaled]) -> dict[int, tuple[Any, Array]]:
    """The variables that change with their new values, by their ids."""
    result: dict[int, tuple[Any, Array]] = {}
    for group, scaling in scaled:
        for part, divided in group.parts():
            variable = part.variable
            _, values = result.get(id(variable)) or (variable, values_of(variable))
            along = scaling.factors[part.channels]
            with np.errstate(over="ignore"):
                used = values + part.offset
                values = (used / along if divided else used * along) - part.offset
            result[id(variable)] = variable, values
    return result


def _unfit(
    group: Group,
    scaling: Scaling,
    values: Mapping[int, tuple[Any, Array]],
    statistics: Statistics,
) -> str:
    """Why the new numbers of a group do not fit their dtypes; empty where they do."""
    try:
        for part, _ in group.parts():
            after, before = values[id(part.variable)][1], values_of(part.variable)
            name = f"{part.variable.name} of {part.layer.name!r}"
            old, new = (largest(v, part.channels, group.count) for v in (before, after))
            for dtype in dtypes_of(part.layer, part.variable):
                check_fits(f"the numbers of the scaled {name}", after, dtype)
                check_digits(f"the scaled {name}", old, new, dtype)
        inputs = largest_inputs(group, statistics) / scaling.factors
        for reader in group.readers:
            dtype = str(reader.layer.compute_dtype)
            check_fits(f"the scaled inputs of {reader.layer.name!r}", inputs, dtype)
    except QFrameError as error:
        return str(error)
    return ""
