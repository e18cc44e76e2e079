"""Rules that hypothesis draws, for the models of `qframe.testing.models`."""

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
def words(draw: Any, quantizers: Any, constraints: Any) -> dict[str, Any]:
    """What a rule gives: quantizers for some slots, constraints for some weights."""
    slots = st.sampled_from((*WEIGHTS, "weight", "input", "output"))
    given = {
        f"{slot}_quantizer": draw(quantizers)
        for slot in draw(st.sets(slots, min_size=1, max_size=3))
    }
    for prefix in draw(st.sets(st.sampled_from((*WEIGHTS, "weight")), max_size=2)):
        given[f"{prefix}_constraint"] = draw(constraints)
    return given


def rules(quantizers: Any, constraints: Any = None) -> Any:
    """Rules that may fit a model or not.

    Args:
        quantizers: a strategy of quantizers, such as `identifiers`.
        constraints: a strategy of constraints; none by default.
    """
    constraints = st.none() if constraints is None else constraints
    given = words(quantizers, constraints)
    pairs = st.tuples(st.sampled_from(SELECTORS), st.none() | given)
    return given | st.lists(pairs, min_size=1, max_size=3)


@st.composite
def fitting_rules(  # noqa: D417 (hypothesis passes `draw`)
    draw: Any, model: Any, quantizers: Any, constraints: Any = None, rest: Any = None
) -> list[Any]:
    """Rules that a model takes: of those drawn, the ones that are about something.

    Args:
        model: what they shall fit.
        quantizers: a strategy of quantizers.
        constraints: a strategy of constraints; none by default.
        rest: the quantizer of a last rule, about every layer that is left; a drawn one by
            default.
    """
    constraints = st.none() if constraints is None else constraints
    given = words(quantizers, constraints)
    last = {"weight_quantizer": draw(quantizers) if rest is None else rest}
    drawn = draw(st.lists(st.tuples(st.sampled_from(SELECTORS), given)))
    fitting: list[Any] = []
    for pair in [*drawn, (layers.Layer, last)]:
        try:
            qf.plan(model, [*fitting, pair])
        except ArgumentError:
            continue
        fitting.append(pair)
    assume(fitting)
    return fitting
