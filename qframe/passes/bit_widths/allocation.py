"""The best bits for each layer within a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from qframe import quantizers
from qframe.errors import ArgumentError, DataError, shown
from qframe.layers.attachment import settings_of
from qframe.layers.quantized import Quantized
from qframe.layers.slots import Slot
from qframe.layers.tree import sites
from qframe.observation.shapes import check_model
from qframe.passes.bit_widths.candidates import WEIGHT_SETTING, kernel_slots
from qframe.passes.bit_widths.costs import Budget, Layer, budget_of
from qframe.passes.bit_widths.front import Front, FrontPoint, front_of
from qframe.passes.bit_widths.programming import Option, least_loss, loss_of, total
from qframe.passes.bit_widths.selection import Selector, allowed_bits, groups_of
from qframe.passes.bit_widths.table import LayerSensitivity, Sensitivity
from qframe.passes.integer_edges import EDGE
from qframe.passes.rounding.sites import before
from qframe.recipes import Recipe
from qframe.registry.configurable import Configurable


def allocate(
    model: Any,
    table: Sensitivity,
    *,
    size: float | None = None,
    bits: float | None = None,
    bops: float | None = None,
    cost: Callable[[str, int], float] | None = None,
    budget: float | None = None,
    among: Any = None,
    fixed: Mapping[Any, Any] | None = None,
    groups: Sequence[Sequence[Any]] = (),
    others: Mapping[str, Any] | None = None,
) -> Any:
    r"""Choose the bits of each layer with the least loss within a budget.

    .. math:: \min_b \sum_l \mathrm{loss}(l, b_l) \quad \text{where} \quad
        \sum_l \mathrm{cost}(l, b_l) \le B

    It is an integer program, which scipy solves exactly. Write at most one of `size`,
    `bits`, `bops` and `budget`; with none, it is solved for 32 budgets from the smallest to
    the largest size.

    Args:
        model: the model of the table. It is not changed.
        table: what `qframe.sensitivity` returns.
        size: the most bytes of all weights of the model, as `qframe.models.profile` counts
            its memory: integers with their scales, and what stays in float. What `others`
            adds is not counted.
        bits: the largest average of the bits of a number, without scales, over the layers
            with losses.
        bops: the most bit operations of these layers for one sample: products times the
            bits of the weight times those of the activation, 32 for one in float.
        cost: a function (path, bits) -> cost of a layer, such as a measured time, for
            `budget`.
        budget: the largest sum of `cost`. Default None: the front over `cost`.
        among: the bits that a target takes. Default None: all bits of the table.
        fixed: the bits, or several allowed ones, by layer: a path, or a selector of a rule
            such as `qframe.first`.
        groups: lists of paths or selectors, whose layers share their bits.
        others: further settings for each layer with losses, as in `qframe.quantize`, such
            as ``{"input_quantizer": ...}``; ``edge_quantizer`` is that of every layer.
            Default None: the settings that the model has now.

    Returns:
        A `qframe.Recipe` for `qframe.quantize`, with a rule for each layer; without a
        budget a `qframe.passes.Front` of such recipes.

    Raises:
        ArgumentError: an argument is something else, several budgets are given, or nothing
            meets the budget: the message has the smallest that can be met.
        DataError: the table is that of another model, or has no layer with losses.
        QFrameError: scipy is not installed.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> layers = [keras.layers.Dense(4, name=name) for name in ("a", "b")]
        >>> model = keras.Sequential([keras.Input((4,)), *layers])
        >>> data = np.random.default_rng(0).normal(size=(64, 4))
        >>> table = qf.sensitivity(model, data, bits=(2, 4, 8), metric="sqnr", verbose=0)
        >>> recipe = qf.allocate(model, table, bits=4, fixed={qf.last: 4})
        >>> report = qf.quantize(model, recipe)
        >>> [layer.kernel_quantizer.bits for layer in layers]
        [4, 4]

    Paper: Dong et al., 2019, https://arxiv.org/abs/1911.03852
    """
    check_model(model, "allocate")
    rows, layers = _layers_of(model, table)
    limits = {"size": size, "bits": bits, "bops": bops, "budget": budget}
    limited = budget_of(model, layers, limits, cost)
    selector = Selector(model, [row.path for row in rows])
    finite = [[b for b, loss in row.losses.items() if math.isfinite(loss)] for row in rows]
    allowed = allowed_bits(finite, among, fixed, selector)
    members = groups_of(groups, selector)
    problem = [_options(group, rows, allowed, limited) for group in members]
    rules = _Rules.of(model, rows, others)

    def point(options: Sequence[Option]) -> FrontPoint:
        width = {
            index: option.bits
            for group, option in zip(members, options, strict=True)
            for index in group
        }
        widths = {row.path: width[index] for index, row in enumerate(rows)}
        count = sum(layer.numbers for layer in layers)
        average = sum(widths[layer.path] * layer.numbers for layer in layers) / count
        loss, spent = loss_of(options), total(options)
        summary = f"{average:.2f} bits a number"
        if limited.name != "bits":
            summary += f", {limited.name}: {limited.text(spent)}"
        summary += f", {table.metric_name}: {table.shown(loss)}"
        recipe = rules.recipe(widths, summary)
        return FrontPoint(float(limited.total(spent)), loss, widths, average, recipe)

    if limited.limit is None:
        points = tuple(point(options) for options in front_of(problem))
        return Front(model.name, table.metric_name, limited.name, limited.unit, points)
    best = least_loss(problem, limited.room)
    if best is None:
        smallest = total([min(options, key=lambda o: o.cost) for options in problem])
        argument = next(name for name, value in limits.items() if value is not None)
        raise ArgumentError(
            f"{argument}={shown(limits[argument])} cannot be met: the smallest that can "
            f"be is {limited.text(smallest)}. Write that or more, or allow fewer bits."
        )
    return point(best).recipe


def _layers_of(model: Any, table: Any) -> tuple[list[LayerSensitivity], list[Layer]]:
    """The rows of a table with losses, and their layers in a model.

    Raises:
        ArgumentError: it is not a table.
        DataError: it is that of another model.
    """
    if not isinstance(table, Sensitivity):
        raise ArgumentError(
            f"allocate takes the table that qframe.sensitivity returns, found "
            f"{shown(table)}. From JSON: qframe.passes.Sensitivity.from_dict(...)."
        )
    slots = {site.path: kernel_slots(site.layer) for site in sites(model)}
    for row in table.rows:
        for path in (row.path, *row.tied):
            found = {s.attribute: tuple(s.variable.shape) for s in slots.get(path, ())}
            if path not in slots or found != dict(row.weights):
                what = f"the weights {found}" if path in slots else "no such layer"
                raise DataError(
                    f"the table is that of another model: its layer {path!r} has the "
                    f"weights {dict(row.weights)}, and {model.name!r} has {what}. Measure "
                    "it: qframe.sensitivity(model, data)."
                )
    paths = [path for row in table.rows for path in (row.path, *row.tied)]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise DataError(
            f"the table has {twice!r} twice. Measure it: qframe.sensitivity(model, data)."
        )
    measured = list(table.measured)
    for row in measured:
        keys = {slot.key for slot in slots[row.path]}
        if any(not keys <= {*row.settings.get(bits, ())} for bits in row.losses):
            raise DataError(
                f"the table has losses for {row.path!r} and no quantizers for them. "
                "Measure it: qframe.sensitivity(model, data)."
            )
    missing = [path for path, found in slots.items() if found and path not in paths]
    if missing or not measured:
        what = f"it lacks {missing[0]!r}" if missing else "no layer in it has losses"
        raise DataError(
            f"the table does not fit {model.name!r}: {what}. Measure it: "
            "qframe.sensitivity(model, data)."
        )
    return measured, [_layer(row, slots) for row in measured]


def _layer(row: LayerSensitivity, slots: Mapping[str, Sequence[Slot]]) -> Layer:
    chosen = {
        bits: [quantizers.get(settings[slot.key]) for slot in slots[row.path]]
        for bits, settings in row.settings.items()
    }
    tied = [slot for path in row.tied for slot in slots[path]]
    return Layer(row.path, [*slots[row.path], *tied], chosen)


def _options(
    group: Sequence[int],
    rows: Sequence[LayerSensitivity],
    allowed: Sequence[set[int]],
    budget: Budget,
) -> list[Option]:
    """The options of layers that share their bits."""
    common = set.intersection(*(allowed[index] for index in group))
    if not common:
        paths = ", ".join(rows[index].path for index in group)
        raise ArgumentError(
            f"groups has {paths} share bits, and no bits are allowed for all of them: "
            f"{[sorted(allowed[index]) for index in group]}. Change fixed or among."
        )
    return [
        Option(
            bits,
            math.fsum(rows[index].losses[bits] for index in group),
            sum(budget.costs[index][bits] for index in group),
        )
        for bits in sorted(common)
    ]


@attrs.frozen(eq=False)
class _Rules:
    """The rules of recipes for a model, without the bits.

    Args:
        rows: the layers with losses.
        kept: the further settings of layers by path.
        last: a rule for all other layers; None for none.
    """

    rows: Sequence[LayerSensitivity]
    kept: Mapping[str, Mapping[str, Any]]
    last: Mapping[str, Any] | None

    @classmethod
    def of(cls, model: Any, rows: Sequence[LayerSensitivity], others: Any) -> _Rules:
        if others is not None and not isinstance(others, Mapping):
            raise ArgumentError(
                "others are settings such as {'input_quantizer': 'integer'}, found "
                f"{shown(others)}."
            )
        decided = {WEIGHT_SETTING}.union(
            *(keys for row in rows for keys in row.settings.values())
        )
        refused = sorted(decided.intersection(others or {}))
        if refused:
            raise ArgumentError(
                f"others has {refused[0]!r}, which the bits of the table decide. Leave it "
                "out, or measure another quantizer: qframe.sensitivity(model, data, "
                "quantizer=...)."
            )
        kept = {}
        for site in sites(model):
            if isinstance(site.layer, Quantized) and kernel_slots(site.layer):
                # What `qframe.round_weights` chose holds for the bits that it had.
                settings = {k: before(v) for k, v in settings_of(site.layer).items()}
                kept[site.path] = {key: _as_text(v) for key, v in settings.items()}
        for row in rows:
            for path in (row.path, *row.tied):
                kept[path] = {**kept.get(path, {}), **(others or {})}
        return cls(rows, kept, others if others and EDGE in others else None)

    def recipe(self, bits: Mapping[str, int], summary: str) -> Recipe:
        """The recipe with these bits by path."""
        settings = dict(self.kept)
        for row in self.rows:
            for path in (row.path, *row.tied):
                settings[path] = {
                    **row.settings[bits[row.path]],
                    **_without(settings[path], row),
                }
        rules: list[Any] = [
            (f"re:^{_escaped(path)}$", each) for path, each in settings.items() if each
        ]
        if self.last is not None:
            rules.append((None, self.last))
        return Recipe(rules, summary=summary)


def _without(settings: Mapping[str, Any], row: LayerSensitivity) -> dict[str, Any]:
    """Settings without the quantizers that the bits decide."""
    decided = set().union(*row.settings.values())
    return {key: value for key, value in settings.items() if key not in decided}


def _as_text(value: Any) -> Any:
    return str(value.identifier) if isinstance(value, Configurable) else value


def _escaped(path: str) -> str:
    """A path as a regex; the characters of most paths mean themselves."""
    return re.sub(r"([^\w/-])", r"\\\1", path)
