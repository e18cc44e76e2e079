"""Notes on settings of a model that cannot work, and what to type."""

from __future__ import annotations

from typing import Any

import attrs

from qframe.errors import ConstantActivationsWarning, UnprunedWeightsWarning
from qframe.layers.adapters import slot_attribute
from qframe.layers.slots import SlotsOf, filled_slots
from qframe.layers.traces import synced_models_with
from qframe.layers.tree import iter_slots
from qframe.models.nonnegative import Constant, constants_of
from qframe.models.pruned import Unpruned, unpruned_of
from qframe.models.ranges import rangeless_of
from qframe.models.reads import LatentRead, latent_reads_of


@attrs.frozen
class Note:
    """A sentence for the reports, and the category of its warning in a pass."""

    text: str
    category: type[Warning] | None = None


def notes_of(model: Any, slots_of: SlotsOf = filled_slots) -> list[Note]:
    """Return the notes on a model.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer. Default: its current ones.
    """
    layers = {id(slot.layer): slot.layer for slot in iter_slots(model, slots_of)}
    if not layers:
        return []
    synced_models_with(layers.values())  # `fit` on JAX may own their values
    rangeless = rangeless_of(model, slots_of)
    return [
        *map(_constant, constants_of(model, slots_of)),
        *map(_unpruned, unpruned_of(model, slots_of)),
        *map(_latent, latent_reads_of(model, slots_of)),
        *_rangeless(rangeless.gathered, "write qf.calibrate(model, data), or train it"),
        *_rangeless(
            rangeless.frozen,
            "write qf.calibrate(model, data); training finds none, since they are frozen",
        ),
    ]


def _constant(constant: Constant) -> Note:
    """Return the note on a quantizer that is constant."""
    remedies = [f"remove the activation of {constant.source!r}"]
    if constant.source != constant.reader:
        remedies.insert(0, "put keras.layers.BatchNormalization() between the two")
    argument = ""
    if constant.slot:
        argument = f"{slot_attribute(constant.slot)}="
        remedies.append(f"give {constant.reader!r} a rule with {argument}None")
    return Note(
        f"{constant.reader!r} quantizes what {constant.source!r} returns, which is never "
        f"negative: {argument}{constant.quantizer!r} makes one value of all of it, so "
        f"that outputs ignore the input. Do one of these: {'; '.join(remedies)}.",
        ConstantActivationsWarning,
    )


def _unpruned(weight: Unpruned) -> Note:
    """Return the note on a pruned weight that loses its zeros."""
    key = slot_attribute(weight.prefix)
    return Note(
        f"the {weight.prefix} of {weight.path!r} is pruned: {weight.part:.0%} of it is "
        f"zero, and {key}={weight.quantizer!r} makes {weight.value:.3g} of a zero. Give "
        f"it a quantizer with a zero, such as 'lsq' or 'ste_tern', or {key}=None.",
        UnprunedWeightsWarning,
    )


def _latent(read: LatentRead) -> Note:
    """Return the note on a quantized weight whose latent values other code reads."""
    key = slot_attribute(read.prefix)
    return Note(
        f"{read.reader!r} reads the {read.attribute} of {read.path!r} in its own code, "
        f"which gets the latent weights: {key}={read.quantizer!r} is not applied there. "
        "For the quantized ones, read `.value` of them in the call of a layer, "
        "under `with qframe.context.quantized_scope(True):`; or give "
        f"{read.path!r} {key}=None."
    )


def _rangeless(paths: tuple[str, ...], remedy: str) -> list[Note]:
    """Return one note on all activations without a range."""
    if not paths:
        return []
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return [
        Note(
            "no range is set yet for the activations that are quantized in "
            f"{', '.join(map(repr, paths[:3]))}{more}: each batch has its own, so that "
            f"predictions depend on the batch. Before you predict, {remedy}."
        )
    ]
