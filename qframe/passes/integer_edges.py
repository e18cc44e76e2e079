"""The settings of a rule for all edges of a model, and for its biases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import keras

from qframe.errors import ArgumentError
from qframe.layers.flow import flow_of
from qframe.layers.roles import Role
from qframe.passes.edges import Edges, edges_of
from qframe.passes.plans import LayerPlan
from qframe.quantizers import Quantizer
from qframe.recipes.rules import Rule

EDGE = "edge_quantizer"
BIAS = "bias_quantizer"
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
    plans = {id(each.plan.site.layer): dict(each.plan.settings) for each in planned}
    for key, settings in edges.settings.items():
        plans[key] = {**settings, **plans[key]}
    notes = dict(edges.notes)
    for each in planned:
        value, site = _bias_of(each), each.plan.site
        if value is None or id(site.layer) not in edges.products:
            continue
        make = functools.partial(construct, BIAS, value)
        if reason := _place_bias(edges, plans, site.layer, make):
            notes[f"the bias of {site.path!r} stays in float: {reason}."] = None
    return [_with(each, plans[id(each.plan.site.layer)]) for each in planned], tuple(notes)


def _bias_of(planned: Planned) -> Any:
    """The quantizer of a rule for the grid of sums, if a plan uses the rule."""
    value = (planned.rule.settings or {}).get(BIAS) if planned.rule is not None else None
    sums = isinstance(value, Quantizer) and value.traits.sums
    return value if sums and planned.plan.settings else None


def _place_bias(
    edges: Edges, plans: dict[int, dict[str, Any]], layer: Any, make: Callable[[], Any]
) -> str:
    """Put the quantizer of a bias where deployment adds the last part of the bias.

    Returns:
        Why that is not possible; empty where it is.
    """
    calls = edges.products[id(layer)]
    affine = {id(s.operation): s for chain in calls for s in chain if s.role is Role.AFFINE}
    if not affine:
        return ""
    plans[id(layer)].pop(BIAS, None)
    if any(sum(s.role is Role.AFFINE for s in chain) != 1 for chain in calls):
        return "several functions shift it"
    for step in affine.values():
        norm = step.operation
        if not isinstance(norm, keras.layers.BatchNormalization):
            return f"{step.path!r} shifts it, which is no batch normalization"
        if not norm.center:
            return f"{step.path!r} has center=False, and no beta to move"
    for step in affine.values():
        plans[id(step.operation)]["beta_quantizer"] = make()
    return ""


def _with(planned: Planned, settings: dict[str, Any]) -> Planned:
    """The plan with settings, and without a reason that they refute."""
    plan = planned.plan
    reason = plan.reason if not settings or plan.settings else ""
    return attrs.evolve(planned, plan=attrs.evolve(plan, settings=settings, reason=reason))
