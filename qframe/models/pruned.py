"""Pruned weights whose zeros a quantizer makes something else of."""

from __future__ import annotations

from typing import Any

import attrs
from keras import ops

from qframe import keras_internals
from qframe.layers.adapters import adapter_of
from qframe.layers.application import quantized
from qframe.layers.slots import ACTIVATIONS
from qframe.layers.substitution import latent
from qframe.layers.tree import sites
from qframe.models.held import Held
from qframe.models.probes import trial_of

# Fewer zeros may be there by chance, and none of a weight that is all zero are pruned.
_PRUNED = 0.1


@attrs.frozen
class Unpruned:
    """A pruned weight that is not pruned once it is quantized.

    Args:
        path: of its layer.
        prefix: of the weight, such as ``"kernel"``.
        part: of it that is zero.
        value: what a zero becomes.
        quantizer: its quantizer.
    """

    path: str
    prefix: str
    part: float
    value: float
    quantizer: Any


def unpruned_of(model: Any, held: Held) -> list[Unpruned]:
    """The pruned weights of a model whose quantizers have no zero.

    Args:
        model: a built model or layer.
        held: the quantizers by slot of each layer.
    """
    found = []
    given = [(site, held(site.layer)) for site in sites(model) if site.layer.built]
    given = [(site, slots) for site, slots in given if set(slots) - set(ACTIVATIONS)]
    for site, slots in given:
        adapter = adapter_of(type(site.layer))
        for weight in adapter.weights if adapter else ():
            if weight.prefix not in slots:
                continue
            variable = latent(site.layer, weight.attribute)
            if variable is None:  # a bias under use_bias=False
                continue
            value = keras_internals.latent_value(variable)
            zeros = ops.convert_to_numpy(ops.equal(value, 0))
            part = float(zeros.mean()) if zeros.size else 0.0
            if not _PRUNED <= part < 1:
                continue
            quantizer = slots[weight.prefix]
            axis = weight.channel_axis_of(site.layer)
            try:
                made = quantized(trial_of(quantizer, axis), value, axis)
            except Exception:  # anybody's code, which says so in the call
                continue
            of_zero = ops.convert_to_numpy(made)[zeros]
            if of_zero.any():
                largest = float(of_zero[abs(of_zero).argmax()])
                found.append(Unpruned(site.path, weight.prefix, part, largest, quantizer))
    return found
