"""The best losses at all budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from qframe.passes.bit_widths import charts
from qframe.passes.bit_widths.programming import Option, Problem, least_loss, loss_of, total
from qframe.recipes import Recipe
from qframe.tables import Table, Tabular
from qframe.tables.markup import Element, to_html

# The most points of a front.
_POINTS = 32


@attrs.frozen
class FrontPoint:
    """A choice of bits that no other one beats in cost and loss.

    Args:
        cost: what it costs, in the unit of the front.
        loss: the sum of the losses of the layers.
        bits: the bits of each layer by its path.
        average: the average bits of a number.
        recipe: the recipe for `qframe.quantize`.
    """

    cost: float
    loss: float
    bits: Mapping[str, int]
    average: float
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON types, the recipe as TOML."""
        return {
            "cost": self.cost,
            "loss": self.loss,
            "average_bits": self.average,
            "bits": dict(self.bits),
            "recipe": self.recipe.to_toml(),
        }


@attrs.frozen
class Front(Tabular):
    """The best losses from the smallest to the largest cost; prints as a table.

    A notebook shows a line of the losses by cost, and the table folded below it.

    Args:
        model: the name of the model.
        metric: the identifier of the metric.
        cost: the name of the cost, such as ``"size"``.
        unit: its unit, such as ``"bytes"``.
        points: the points, the cheapest first.
    """

    model: str
    metric: str
    cost: str
    unit: str
    points: tuple[FrontPoint, ...]

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes of the points."""
        return tuple(point.recipe for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """Return the front as JSON types."""
        return {
            "model": self.model,
            "metric": self.metric,
            "cost": self.cost,
            "unit": self.unit,
            "points": [point.to_dict() for point in self.points],
        }

    def tables(self) -> list[Table]:
        """Return one table, with a row for each point."""
        paths = list(self.points[0].bits)
        header = [f"{self.cost.capitalize()}\n({self.unit})" if self.unit else "Cost"]
        header += ["Loss", "Bits a\nnumber", *paths]
        rows = [
            [
                f"{point.cost:.10g}",
                f"{point.loss:.3g}",
                f"{point.average:.2f}",
                *(str(point.bits[path]) for path in paths),
            ]
            for point in self.points
        ]
        title = f"{self.model}: the least {self.metric} by {self.cost}, and bits by layer"
        return [Table(title, header, rows)]

    def figure(self) -> Element:
        """Return a figure of the losses by cost, on a logarithmic scale."""
        points = [(point.cost, point.loss) for point in self.points]
        return charts.front(points, self.cost, self.unit)

    def _repr_html_(self) -> str:
        chart = to_html(charts.side_by_side([self.figure()]))
        table = super()._repr_html_()
        title = f"the {len(self.points)} points"
        return f"{chart}<details><summary>{title}</summary>\n{table}\n</details>"


def front_of(problem: Problem) -> list[Sequence[Option]]:
    """The best choices at budgets from the smallest to the largest, without dominated ones.

    The budgets are evenly spaced, so that a choice between two of them may be missing.
    """
    smallest = total([min(options, key=lambda o: o.cost) for options in problem])
    best = [min(options, key=lambda o: (o.loss, o.cost)) for options in problem]
    largest = total(best)
    chosen: list[Sequence[Option]] = []
    for index in range(_POINTS):
        budget = smallest + (largest - smallest) * index / (_POINTS - 1)
        point = least_loss(problem, budget)
        if point is not None and (not chosen or loss_of(point) < loss_of(chosen[-1])):
            chosen.append(point)
    return chosen
