"""Activations whose quantizers have no range yet."""

from __future__ import annotations

from typing import Any

import attrs
from keras import ops

from qframe.layers.slots import ACTIVATIONS
from qframe.layers.tree import Site, sites
from qframe.models.held import Held
from qframe.quantizers import Quantizer


@attrs.frozen
class Rangeless:
    """The layers with an activation that has no range yet.

    Args:
        gathered: their paths, where training finds the range.
        frozen: those where it does not, since the quantizer is frozen.
    """

    gathered: tuple[str, ...]
    frozen: tuple[str, ...]


def rangeless_of(model: Any, held: Held) -> Rangeless:
    """The layers of a model whose activations have no range yet.

    Args:
        model: a built model or layer.
        held: the quantizers by slot of each layer.
    """
    found: dict[bool, dict[str, None]] = {False: {}, True: {}}
    for site, quantizer in _ranged(model, held):
        if not _is_started(quantizer):
            frozen = not site.layer.trainable or _is_frozen(quantizer)
            found[frozen][site.path] = None
    return Rangeless(tuple(found[False]), tuple(found[True]))


def _ranged(model: Any, held: Held) -> list[tuple[Site, Quantizer]]:
    """The quantizers of activations whose range training finds, each with its place."""
    found: list[tuple[Site, Any]] = []
    for site in sites(model):
        slots = held(site.layer)
        found += [(site, slots[slot]) for slot in ACTIVATIONS if slot in slots]
        found.append((site, site.layer))
    return [
        (site, each)
        for site, each in found
        if isinstance(each, Quantizer) and each.traits.ranged and each.traits.updates
    ]


def _is_started(quantizer: Quantizer) -> bool:
    # As `Learned` and `GatheredRange` name it.
    starts = [v for v in quantizer.variables if v.name.endswith("started")]
    return quantizer.built and all(ops.convert_to_numpy(start) > 0 for start in starts)


def _is_frozen(quantizer: Quantizer) -> bool:
    frozen = [v for v in quantizer.variables if v.name == "frozen"]
    return not quantizer.trainable or any(ops.convert_to_numpy(v) > 0 for v in frozen)
