"""Statistics of the channels that layers read while a model runs in float over data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops, tree

from qframe import observation
from qframe.errors import DataError
from qframe.passes.equalization.channel_groups import Reader
from qframe.passes.equalization.input_rows import is_matrix, rows
from qframe.passes.weights import Array

# The key of the notes on the inputs of the model, which a ReLU may hide from its layers.
_INPUTS = "inputs of the model"


@attrs.frozen(eq=False)
class ChannelStatistics:
    """Statistics of the inputs of a layer, by the positions along the axes of channels.

    Args:
        largest: the largest magnitudes.
        mean: the mean magnitudes.
        rows: rows that the layer multiplies with its matrix; None without.
    """

    largest: Array
    mean: Array
    rows: Array | None = None


class _ChannelObserver(observation.Observer):
    """Notes statistics of each example that a layer reads.

    Args:
        readers: the layers by a key.
        count: the rows of each example; 0 for none.
    """

    def __init__(self, readers: Mapping[str, Reader], count: int) -> None:
        self._readers = {id(reader.layer): (key, reader) for key, reader in readers.items()}
        self._count = count
        self._model: Any = None

    def begin(self, model: Any, args: tuple[Any, ...]) -> None:
        super().begin(model, args)
        self._model = model

    def on_layer(self, layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        if layer is self._model:
            self.note(_INPUTS, *map(_is_finite, _floats((args, kwargs))))
        if id(layer) in self._readers:
            key, reader = self._readers[id(layer)]
            inputs = args[0] if args else next(iter(kwargs.values()))
            x = ops.cast(inputs, "float32")
            axes = [i for i in range(1, len(x.shape)) if i not in reader.place.axes]
            parts = [ops.max(ops.abs(x), axes), ops.mean(ops.abs(x), axes)]
            if self._count and is_matrix(layer):
                parts.append(rows(layer, x, self._count))
            self.note(key, *parts)
        return call(*args, **kwargs)

    def on_quantizer(
        self, quantizer: Any, call: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        return inputs

    def in_loop(self) -> observation.Observer:
        return _ChannelObserver({}, 0)


def channel_statistics(
    model: Any, readers: Mapping[str, Reader], data: Any, count: int, **options: Any
) -> dict[str, ChannelStatistics]:
    """Return statistics of what layers read, by their keys.

    Args:
        model: the model.
        readers: the layers by a key.
        data: as in `qframe.observation.run`.
        count: the rows of each example; 0 for none.
        **options: of `qframe.observation.run`.

    Raises:
        DataError: there is no batch, or NaN or infinity reached a layer.
    """
    observer = _ChannelObserver(readers, count)
    notes = observation.run(model, data, observer, purpose="equalization", **options)
    if not all(map(np.all, notes.pop(_INPUTS, ()))):
        raise DataError(
            "the equalization data contains NaN or infinity. Remove those examples."
        )
    return {key: _statistics(readers[key], parts) for key, parts in notes.items()}


def _floats(arguments: Any) -> list[Any]:
    tensors = filter(ops.is_tensor, tree.flatten(arguments))
    return [x for x in tensors if keras.backend.is_float_dtype(x.dtype)]


def _is_finite(x: Any) -> Any:
    """Whether all numbers of each example are finite."""
    x = ops.convert_to_tensor(x, sparse=False)
    return ops.all(ops.isfinite(ops.reshape(x, (ops.shape(x)[0], -1))), axis=1)


def _statistics(reader: Reader, parts: list[Any]) -> ChannelStatistics:
    largest, mean, *rest = parts
    if not len(largest):
        raise DataError("the equalization data is empty.")
    # A backend may skip NaN in a maximum.
    if not (np.isfinite(largest).all() and np.isfinite(mean).all()):
        raise DataError(
            f"NaN or infinity reached {reader.layer.name!r}. Look for it in the data and "
            "in the weights; nothing was changed."
        )
    magnitudes = np.asarray(largest, np.float64).max(0), np.asarray(mean, np.float64)
    flat = None if not rest else np.asarray(rest[0]).reshape(-1, rest[0].shape[-1])
    return ChannelStatistics(magnitudes[0], magnitudes[1].mean(0), flat)
