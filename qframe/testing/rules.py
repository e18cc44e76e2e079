"""Hypothesis strategies of rules for the models of `qframe.testing.models`."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from qframe.errors import ArgumentError

WEIGHTS = ("kernel", "recurrent", "depthwise", "pointwise", "bias")

SELECTORS = (
    qf.first,
    qf.last,
    layers.Layer,
    layers.Dense,
    "Dense",
    "SimpleRNNCell",
    "Scale",
    "re:dense",
    "re:[aB]",
    "re:/",
    "re:^[^/]*$",
    lambda layer: getattr(layer, "bias", None) is not None,
)


@st.composite
def rule_settings(draw: Any, quantizers: Any, constraints: Any) -> dict[str, Any]:
    """Settings of a rule: quantizers of some slots, constraints of some weights."""
    slots = st.sampled_from((*WEIGHTS, "weight", "input", "output"))
    settings = {
        f"{slot}_quantizer": draw(quantizers)
        for slot in draw(st.sets(slots, min_size=1, max_size=3))
    }
    for prefix in draw(st.sets(st.sampled_from((*WEIGHTS, "weight")), max_size=2)):
        settings[f"{prefix}_constraint"] = draw(constraints)
    return settings


def rules(quantizers: Any, constraints: Any = None) -> Any:
    """Rules that may or may not fit a model.

    Args:
        quantizers: a strategy of quantizers, such as `identifiers`.
        constraints: a strategy of constraints; none by default.
    """
    constraints = st.none() if constraints is None else constraints
    settings = rule_settings(quantizers, constraints)
    pairs = st.tuples(st.sampled_from(SELECTORS), st.none() | settings)
    return settings | st.lists(pairs, min_size=1, max_size=3)


@st.composite
def fitting_rules(  # noqa: D417 (hypothesis passes `draw`)
    draw: Any, model: Any, quantizers: Any, constraints: Any = None, rest: Any = None
) -> list[Any]:
    """Rules that fit a model: the drawn ones that `qframe.plan` accepts.

    Args:
        model: the model that they fit.
        quantizers: a strategy of quantizers.
        constraints: a strategy of constraints; none by default.
        rest: the quantizer of a last rule for every remaining layer; drawn by default.
    """
    constraints = st.none() if constraints is None else constraints
    settings = rule_settings(quantizers, constraints)
    last = {"weight_quantizer": draw(quantizers) if rest is None else rest}
    drawn = draw(st.lists(st.tuples(st.sampled_from(SELECTORS), settings)))
    fitting: list[Any] = []
    for pair in [*drawn, (layers.Layer, last)]:
        try:
            qf.plan(model, [*fitting, pair])
        except ArgumentError:
            continue
        fitting.append(pair)
    assume(fitting)
    return fitting
