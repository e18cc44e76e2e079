"""Activations whose quantizers have no range yet."""

from __future__ import annotations

from typing import Any

import attrs
from keras import ops

from qframe.layers.slots import SlotsOf
from qframe.layers.tree import iter_slots
from qframe.quantizers import Quantizer


@attrs.frozen
class Rangeless:
    """The layers with an activation that has no range yet.

    Args:
        gathered: the paths of those whose range training gathers.
        frozen: the paths of those whose quantizer is frozen.
    """

    gathered: tuple[str, ...]
    frozen: tuple[str, ...]


def rangeless_of(model: Any, slots_of: SlotsOf) -> Rangeless:
    """Return the layers of a model whose activations have no range yet.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer.
    """
    paths: dict[bool, dict[str, None]] = {False: {}, True: {}}
    for slot in iter_slots(model, slots_of):
        quantizer = slot.quantizer
        if not slot.is_activation or not isinstance(quantizer, Quantizer):
            continue
        traits = quantizer.traits
        if traits.ranged and traits.updates and not _is_started(quantizer):
            frozen = not slot.layer.trainable or _is_frozen(quantizer)
            paths[frozen][slot.path] = None
    return Rangeless(tuple(paths[False]), tuple(paths[True]))


def _is_started(quantizer: Quantizer) -> bool:
    # `Learned` and `GatheredRange` have such variables.
    starts = [v for v in quantizer.variables if v.name.endswith("started")]
    return quantizer.built and all(ops.convert_to_numpy(start) > 0 for start in starts)


def _is_frozen(quantizer: Quantizer) -> bool:
    frozen = [v for v in quantizer.variables if v.name == "frozen"]
    return not quantizer.trainable or any(ops.convert_to_numpy(v) > 0 for v in frozen)
