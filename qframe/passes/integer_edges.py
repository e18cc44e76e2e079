"""The settings of a rule for all edges of a model, and for its biases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from qframe.errors import ArgumentError
from qframe.layers.flow import flow_of
from qframe.passes.biases import BIAS, Biases
from qframe.passes.edges import edges_of
from qframe.passes.plans import LayerPlan
from qframe.quantizers import Quantizer
from qframe.recipes.rules import Rule

EDGE = "edge_quantizer"
# From a setting and its value to a new quantizer.
Construct = Callable[[str, Any], Any]


@attrs.frozen(eq=False)
class Planned:
    """The plan of a layer by its own settings, and the rule that selects the layer."""

    plan: LayerPlan
    rule: Rule | None


def edge_plans(
    model: Any, planned: Sequence[Planned], construct: Construct
) -> tuple[list[Planned], tuple[str, ...]]:
    """Add the quantizers of edges, and move those of biases where deployment adds them.

    Args:
        model: the model.
        planned: the plans by the rules alone, of every layer.
        construct: makes a quantizer.

    Returns:
        The plans, and notes on what stays in float.

    Raises:
        ArgumentError: the edges of the model are not known.
    """
    flow = flow_of(model)
    if flow is None:
        raise ArgumentError(
            f"{EDGE} quantizes the tensors between layers, and the call of {model.name!r} "
            "is code, in which they are not known. Build it as keras.Sequential or "
            "keras.Model(inputs, outputs), or give its layers an input_quantizer."
        )
    rules = {id(each.plan.site.layer): each.rule for each in planned}

    def edge_of(layer: Any) -> Callable[[], Any] | None:
        rule = rules.get(id(layer))
        if getattr(layer, "quantization_mode", None) is not None:  # by Keras
            return None
        value = (rule.settings or {}).get(EDGE) if rule is not None else None
        return None if value is None else functools.partial(construct, EDGE, value)

    edges = edges_of(flow, edge_of)
    settings = {id(each.plan.site.layer): dict(each.plan.settings) for each in planned}
    for key, slots in edges.settings.items():
        settings[key] = {**slots, **settings[key]}
    notes = dict(edges.notes)
    biases = Biases(flow, edges, settings)
    for each in planned:
        value = _bias_of(each)
        if value is not None:
            reason = biases.place(each.plan.site.layer, value)
            if reason:
                path = each.plan.site.path
                notes[f"the bias of {path!r} stays in float: {reason}."] = None
    return [_with(each, settings[id(each.plan.site.layer)]) for each in planned], tuple(
        notes
    )


def _bias_of(planned: Planned) -> Any:
    """The quantizer of a rule for the grid of sums, if a plan uses the rule."""
    value = (planned.rule.settings or {}).get(BIAS) if planned.rule is not None else None
    sums = isinstance(value, Quantizer) and value.traits.sums
    return value if sums and planned.plan.settings else None


def _with(planned: Planned, settings: dict[str, Any]) -> Planned:
    """The plan with settings, and without a reason that they refute."""
    plan = planned.plan
    reason = plan.reason if not settings or plan.settings else ""
    return attrs.evolve(planned, plan=attrs.evolve(plan, settings=settings, reason=reason))
