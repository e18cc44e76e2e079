"""The numbers that reach the quantizers of a model that runs in float over data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from qframe import observation
from qframe.errors import DataError
from qframe.layers.slots import Slot
from qframe.observation.samples import summary
from qframe.passes.ranges import Seen
from qframe.passes.searching import Array

# Of one example and range, or more where there are more channels: enough for a percentile
# over many examples.
_OF_AN_EXAMPLE = 256
# Of a weight, which is one example.
_OF_A_WEIGHT = 2**16


class Inputs(observation.Observer):
    """Notes a summary of what reaches some quantizers, and lets the model run in float.

    Args:
        slots: of the quantizers, by a key.
        samples: the number of samples of an example.
    """

    # A quantizer that is called twice in a step has two parts of each example.
    axis = 1

    def __init__(self, slots: Mapping[str, Slot], samples: int) -> None:
        self._keys = {id(slot.quantizer): key for key, slot in slots.items()}
        self._samples = samples

    def on_quantizer(
        self, quantizer: Any, call: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        key = self._keys.get(id(quantizer))
        if key is not None:
            shape, axis = quantizer.range_shape(), quantizer.channel_axis
            self.note(key, *summary(inputs, shape, self._samples, axis))
        return inputs

    def in_loop(self) -> observation.Observer:
        return Inputs({}, 0)


def seen_by(
    model: Any, slots: Mapping[str, Slot], data: Any, samples: bool, **options: Any
) -> dict[str, Seen]:
    """The numbers that reach the quantizers in some slots, by the keys of these.

    Args:
        model: the model.
        slots: the slots by a key; a weight needs no data.
        data: as in `qframe.observation.run`.
        samples: whether samples are wanted, and not the ends alone.
        **options: of `qframe.observation.run`.

    Raises:
        DataError: there is no batch, or NaN or infinity reached a quantizer.
    """
    activations = {key: slot for key, slot in slots.items() if slot.is_activation}
    observer = Inputs(activations, _OF_AN_EXAMPLE if samples else 0)
    notes = observation.run(model, data, observer, purpose="calibration", **options)
    for key, slot in slots.items():
        if slot.variable is not None:
            value = ops.expand_dims(slot.latent_value(), 0)
            shape = slot.quantizer.range_shape()
            parts = summary(value, shape, _OF_A_WEIGHT if samples else 0, ())
            notes[key] = [ops.convert_to_numpy(part) for part in parts]
    return {key: _seen(parts, slots[key]) for key, parts in notes.items()}


def _seen(parts: list[Array], slot: Slot) -> Seen:
    """The numbers that reached a quantizer, checked."""
    where = f"{slot.path!r}" + (f" ({slot.name})" if slot.name else "")
    sizes, low, high, *rest = (np.asarray(part, np.float64) for part in parts)
    if not len(low):
        raise DataError("the calibration data is empty.")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DataError(
            f"NaN or infinity reached {where}. Look for it in the calibration data and in "
            "the weights; no range was changed."
        )
    samples = rest[0].reshape(-1, low.shape[2]) if rest else None
    if samples is not None:
        samples = samples[~np.isnan(samples[:, 0])]
    starts = [0]
    while (end := starts[-1] + int(sizes[starts[-1]].flat[0])) < len(low):
        starts.append(end)
    return Seen(low.min(1), high.max(1), starts, samples)
