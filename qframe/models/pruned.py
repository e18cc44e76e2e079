"""Pruned weights whose quantizers have no zero."""

from __future__ import annotations

from typing import Any

import attrs
from keras import ops

from qframe.layers.application import quantized
from qframe.layers.slots import SlotsOf
from qframe.layers.tree import iter_slots
from qframe.models.probes import trial_of

# A smaller part may be zero by chance.
_PRUNED = 0.1


@attrs.frozen
class Unpruned:
    """A pruned weight whose quantizer changes zeros.

    Args:
        path: the path of its layer.
        prefix: the name of the weight, such as ``"kernel"``.
        part: the part of the weight that is zero.
        value: the quantized value of a zero.
        quantizer: its quantizer.
    """

    path: str
    prefix: str
    part: float
    value: float
    quantizer: Any


def unpruned_of(model: Any, slots_of: SlotsOf) -> list[Unpruned]:
    """Return the pruned weights of a model whose quantizers have no zero.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer.
    """
    unpruned = []
    for slot in iter_slots(model, slots_of):
        if slot.variable is None:
            continue
        value = slot.latent_value()
        zeros = ops.convert_to_numpy(ops.equal(value, 0))
        part = float(zeros.mean()) if zeros.size else 0.0
        if not _PRUNED <= part < 1:  # a weight of zeros only is not pruned
            continue
        axis = slot.channel_axis
        try:
            result = quantized(trial_of(slot.quantizer, axis), value, axis)
        except Exception:  # code of users, which raises in the call too
            continue
        of_zero = ops.convert_to_numpy(result)[zeros]
        if of_zero.any():
            largest = float(of_zero[abs(of_zero).argmax()])
            unpruned.append(Unpruned(slot.path, slot.name, part, largest, slot.quantizer))
    return unpruned
