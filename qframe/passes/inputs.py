"""Statistics of the inputs of quantizers while a model runs in float over data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from qframe import observation
from qframe.errors import DataError
from qframe.layers.slots import Slot
from qframe.observation.samples import summary
from qframe.passes.ranges import InputStatistics
from qframe.passes.searching import Array

# Samples per example and range, enough for a percentile over many examples. More channels
# take more.
_EXAMPLE_SAMPLES = 256
# A weight is one example.
_WEIGHT_SAMPLES = 2**16


class InputObserver(observation.Observer):
    """Notes a summary of the inputs of quantizers, and lets the model run in float.

    Args:
        slots: the slots of the quantizers by a key.
        samples: the number of samples of an example.
    """

    # The two calls of a quantizer in a step belong to the same examples.
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
        return InputObserver({}, 0)


def input_statistics(
    model: Any, slots: Mapping[str, Slot], data: Any, samples: bool, **options: Any
) -> dict[str, InputStatistics]:
    """Return the statistics of the inputs of the quantizers in some slots, by their keys.

    Args:
        model: the model.
        slots: the slots by a key; a weight needs no data.
        data: as in `qframe.observation.run`.
        samples: whether to take samples besides the smallest and largest numbers.
        **options: of `qframe.observation.run`.

    Raises:
        DataError: there is no batch, or NaN or infinity reached a quantizer.
    """
    activations = {key: slot for key, slot in slots.items() if slot.is_activation}
    observer = InputObserver(activations, _EXAMPLE_SAMPLES if samples else 0)
    notes = observation.run(model, data, observer, purpose="calibration", **options)
    for key, slot in slots.items():
        if slot.variable is not None:
            value = ops.expand_dims(slot.latent_value(), 0)
            shape = slot.quantizer.range_shape()
            parts = summary(value, shape, _WEIGHT_SAMPLES if samples else 0, ())
            notes[key] = [ops.convert_to_numpy(part) for part in parts]
    return {key: _statistics(parts, slots[key]) for key, parts in notes.items()}


def _statistics(parts: list[Array], slot: Slot) -> InputStatistics:
    """Check the notes of a quantizer and join them."""
    place = f"{slot.path!r}" + (f" ({slot.name})" if slot.name else "")
    sizes, low, high, *extra = (np.asarray(part, np.float64) for part in parts)
    if not len(low):
        raise DataError("the calibration data is empty.")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DataError(
            f"NaN or infinity reached {place}. Look for it in the calibration data and in "
            "the weights; no range was changed."
        )
    samples = extra[0].reshape(-1, low.shape[2]) if extra else None
    if samples is not None:
        samples = samples[~np.isnan(samples[:, 0])]
    starts = [0]
    while (end := starts[-1] + int(sizes[starts[-1]].flat[0])) < len(low):
        starts.append(end)
    return InputStatistics(low.min(1), high.max(1), starts, samples)
