"""Validation of a plan before anything changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError
from qframe.layers.adapters import slot_attribute
from qframe.layers.application import errors_located, try_quantizer
from qframe.layers.attachment import cells_of, takes_sequences
from qframe.layers.slots import ACTIVATIONS, possible_slots, quantizer_for_slot
from qframe.layers.traces import models_with
from qframe.layers.tree import Site
from qframe.passes.plans import LayerPlan
from qframe.quantizers import Quantizer
from qframe.quantizers.base import is_stateless


def check_quantizers(plans: Sequence[LayerPlan]) -> None:
    """Raise where the quantizer of a weight does not fit it."""
    seen = set()
    for plan in plans:
        for slot in possible_slots(plan.site.layer):
            quantizer, variable = plan.settings.get(slot.key), slot.variable
            if quantizer is None or variable is None:
                continue
            shape, axis = tuple(variable.shape), slot.channel_axis
            with errors_located(plan.site.path, slot.name, shape):
                stateful = _build(quantizer, slot.name, shape, axis)
                if isinstance(quantizer, Quantizer) and quantizer.fits(shape, axis):
                    if stateful:
                        continue  # it takes this shape alone
                    shape = (2,) * len(shape)
                trial = repr(quantizer), shape, axis, variable.dtype
                if trial not in seen:
                    seen.add(trial)
                    try_quantizer(quantizer, shape, variable.dtype, axis)


def _build(quantizer: Any, slot: str, shape: tuple[int, ...], axis: Any) -> bool:
    """Build a quantizer if it has state, and return whether it has."""
    if not isinstance(quantizer, keras.layers.Layer) or is_stateless(quantizer):
        return False
    if isinstance(quantizer, Quantizer):
        quantizer_for_slot(slot, quantizer).channel_axis = axis
    quantizer.build(shape)
    return True


def check_optimizer(model: Any, plans: Sequence[LayerPlan]) -> None:
    """Raise where an optimizer was built without the variables of a quantizer.

    The optimizer may belong to another model with the same layers.
    """
    learning = [
        (plan.site, key, value)
        for plan in plans
        for key, value in plan.settings.items()
        if learns(value)
    ]
    if not learning:
        return
    for each in (model, *models_with(site.layer for site, *_ in learning)):
        if getattr(getattr(each, "optimizer", None), "built", False):
            layers = {id(layer) for layer in keras_internals.all_layers(each)}
            site, key, value = next(x for x in learning if id(x[0].layer) in layers)
            raise ArgumentError(
                f"{key}={value!r} for {site.path!r} has variables that learn, and the "
                f"optimizer of {each.name!r} was built without them. Quantize before that "
                "model is trained, or write model.optimizer = None, quantize, and compile "
                "it again."
            )


def learns(quantizer: Any) -> bool:
    """Return whether a quantizer has variables that learn."""
    if isinstance(quantizer, Quantizer):
        return quantizer.traits.trainable
    builds = getattr(type(quantizer), "build", None)
    return isinstance(quantizer, keras.layers.Layer) and (
        builds is not keras.layers.Layer.build
    )


def check_loops(all_sites: Sequence[Site], plans: Sequence[LayerPlan]) -> None:
    """Raise where JAX would have to write to a variable within a loop over time."""
    if keras.backend.backend() != "jax":
        return
    by_layer: Any = {id(plan.site.layer): plan for plan in plans}
    for site in all_sites:
        if not isinstance(site.layer, keras.layers.RNN) or site.layer.unroll:
            continue
        for index, cell in enumerate(cells_of(site.layer)):
            before = index == 0 and takes_sequences(cell)
            plan = by_layer.get(id(cell))
            for name in ("output",) if before else ACTIVATIONS:
                quantizer = plan and plan.settings.get(slot_attribute(name))
                if isinstance(quantizer, Quantizer) and (
                    quantizer.traits.updates or quantizer.traits.stochastic
                ):
                    raise ArgumentError(
                        f"{name}_quantizer={quantizer!r} for {plan.site.path!r} "
                        "writes to a variable in training, which JAX cannot do within the "
                        f"loop over time of {site.path!r}. Make that layer with "
                        "unroll=True, or give the cell a quantizer that writes nothing."
                    )
