"""What a plan is tried for before anything changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError
from qframe.layers.adapters import adapter_of
from qframe.layers.application import located, try_on
from qframe.layers.attachment import cells_of, takes_sequences
from qframe.layers.slots import ACTIVATIONS, placed
from qframe.layers.substitution import latent
from qframe.layers.traces import models_with
from qframe.layers.tree import Site
from qframe.passes.entries import Entry
from qframe.quantizers import Quantizer
from qframe.quantizers.state import is_stateless


def check_quantizers(entries: Sequence[Entry]) -> None:
    """Raise where the quantizer of a weight does not fit it."""
    seen = set()
    for entry in entries:
        adapter = adapter_of(type(entry.site.layer))
        for weight in adapter.weights if adapter else ():
            quantizer = entry.words.get(f"{weight.prefix}_quantizer")
            if quantizer is None:
                continue
            variable = latent(entry.site.layer, weight.attribute)
            shape, axis = tuple(variable.shape), weight.channel_axis_of(entry.site.layer)
            with located(entry.site.path, weight.prefix, shape):
                stateful = _build(quantizer, weight.prefix, shape, axis)
                if isinstance(quantizer, Quantizer) and quantizer.fits(shape, axis):
                    if stateful:
                        continue  # it takes this shape alone
                    shape = (2,) * len(shape)
                trial = repr(quantizer), shape, axis, variable.dtype
                if trial not in seen:
                    seen.add(trial)
                    try_on(quantizer, shape, variable.dtype, axis)


def _build(quantizer: Any, slot: str, shape: tuple[int, ...], axis: Any) -> bool:
    """Build a quantizer that has state, which nothing else has yet; whether it has."""
    if not isinstance(quantizer, keras.layers.Layer) or is_stateless(quantizer):
        return False
    if isinstance(quantizer, Quantizer):
        placed(slot, quantizer).channel_axis = axis
    quantizer.build(shape)
    return True


def check_optimizer(model: Any, entries: Sequence[Entry]) -> None:
    """Raise where an optimizer was built without the variables of a quantizer.

    It may be that of another model with the same layers.
    """
    learning = [
        (entry.site, key, value)
        for entry in entries
        for key, value in entry.words.items()
        if learns(value)
    ]
    if not learning:
        return
    for each in (model, *models_with(site.layer for site, *_ in learning)):
        if getattr(getattr(each, "optimizer", None), "built", False):
            held = {id(layer) for layer in keras_internals.all_layers(each)}
            site, key, value = next(x for x in learning if id(x[0].layer) in held)
            raise ArgumentError(
                f"{key}={value!r} for {site.path!r} has variables that learn, and the "
                f"optimizer of {each.name!r} was built without them. Quantize before that "
                "model is trained, or write model.optimizer = None, quantize, and compile "
                "it again."
            )


def learns(quantizer: Any) -> bool:
    """Whether a quantizer has variables that learn."""
    if isinstance(quantizer, Quantizer):
        return quantizer.traits.trainable
    builds = getattr(type(quantizer), "build", None)
    return isinstance(quantizer, keras.layers.Layer) and (
        builds is not keras.layers.Layer.build
    )


def check_loops(found: Sequence[Site], entries: Sequence[Entry]) -> None:
    """Raise where JAX would have to write to a variable within a loop over time."""
    if keras.backend.backend() != "jax":
        return
    given = {id(entry.site.layer): entry for entry in entries}
    for site in found:
        if not isinstance(site.layer, keras.layers.RNN) or site.layer.unroll:
            continue
        for index, cell in enumerate(cells_of(site.layer)):
            before = index == 0 and takes_sequences(cell)
            slots = ("output",) if before else ACTIVATIONS
            for slot in slots if id(cell) in given else ():
                quantizer = given[id(cell)].words.get(f"{slot}_quantizer")
                if isinstance(quantizer, Quantizer) and (
                    quantizer.traits.updates or quantizer.traits.stochastic
                ):
                    raise ArgumentError(
                        f"{slot}_quantizer={quantizer!r} for {given[id(cell)].site.path!r} "
                        "writes to a variable in training, which JAX cannot do within the "
                        f"loop over time of {site.path!r}. Make that layer with "
                        "unroll=True, or give the cell a quantizer that writes nothing."
                    )
