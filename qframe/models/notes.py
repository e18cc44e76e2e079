"""Notes on settings of a model's quantization that cannot work, and what to type."""

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
    """A sentence for the reports, and the warning that it is for a pass."""

    text: str
    category: type[Warning] | None = None


def notes_of(model: Any, slots_of: SlotsOf = filled_slots) -> list[Note]:
    """The notes on a model.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer. Default: those that it has now.
    """
    layers = {id(slot.layer): slot.layer for slot in iter_slots(model, slots_of)}
    if not layers:
        return []
    synced_models_with(layers.values())  # JAX may have their values
    rangeless = rangeless_of(model, slots_of)
    return [
        *(_constant(found) for found in constants_of(model, slots_of)),
        *(_unpruned(found) for found in unpruned_of(model, slots_of)),
        *(_latent(found) for found in latent_reads_of(model, slots_of)),
        *_rangeless(rangeless.gathered, "write qf.calibrate(model, data), or train it"),
        *_rangeless(
            rangeless.frozen,
            "write qf.calibrate(model, data); training finds none, since they are frozen",
        ),
    ]


def _constant(found: Constant) -> Note:
    """The note on a quantizer that lets nothing through."""
    cures = [f"take the activation of {found.maker!r} away"]
    if found.maker != found.reader:
        cures.insert(0, "put keras.layers.BatchNormalization() between the two")
    word = ""
    if found.slot:
        word = f"{slot_attribute(found.slot)}="
        cures.append(f"give {found.reader!r} a rule with {slot_attribute(found.slot)}=None")
    return Note(
        f"{found.reader!r} quantizes what {found.maker!r} returns, which is never "
        f"negative: {word}{found.quantizer!r} makes one value of all of it, and nothing "
        f"of the input gets through. Do one of these: {'; '.join(cures)}.",
        ConstantActivationsWarning,
    )


def _unpruned(found: Unpruned) -> Note:
    """The note on a pruned weight that does not stay so."""
    word = slot_attribute(found.prefix)
    return Note(
        f"the {found.prefix} of {found.path!r} is pruned: {found.part:.0%} of it is zero, "
        f"and {word}={found.quantizer!r} makes {found.value:.3g} of a zero. Give it a "
        f"quantizer with a zero, such as 'lsq' or 'ste_tern', or {word}=None.",
        UnprunedWeightsWarning,
    )


def _latent(found: LatentRead) -> Note:
    """The note on a quantized weight that code of users reads latent."""
    word = slot_attribute(found.prefix)
    return Note(
        f"{found.reader!r} reads the {found.attribute} of {found.path!r} in code of its "
        f"own, which gets the latent weights: {word}={found.quantizer!r} is not applied "
        "there. For the quantized ones, read `.value` of them in the call of a layer, "
        "under `with qframe.context.quantized_scope(True):`; or give "
        f"{found.path!r} {word}=None."
    )


def _rangeless(paths: tuple[str, ...], cure: str) -> list[Note]:
    """The note on activations without a range, one for all of them."""
    if not paths:
        return []
    return [
        Note(
            "no range is set yet for the activations that are quantized in "
            f"{_listed(paths)}: each batch has its own, and so what is predicted depends "
            f"on the batch. Before you predict, {cure}."
        )
    ]


def _listed(paths: tuple[str, ...]) -> str:
    """Some of the paths, and how many more there are."""
    shown = ", ".join(map(repr, paths[:3]))
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown
