"""Weights that read as their quantized values outside of a call too."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.context import should_quantize
from qframe.errors import QFrameError
from qframe.layers.slots import Slot, slot_of, weight_slots
from qframe.layers.substitution import latent


class Reading:
    """A latent variable that reads as its quantized value; all else is the variable's."""

    def __init__(self, latent: Any, read: Callable[[], Any]) -> None:
        self.__dict__.update(latent=latent, _read=read)

    @property
    def value(self) -> Any:
        """The quantized value."""
        # Not before it is asked for: while JAX trains, the variables hold nothing.
        return self._read()

    def numpy(self) -> NDArray[Any]:
        """The quantized value as a NumPy array."""
        array: NDArray[Any] = ops.convert_to_numpy(self.value)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype)

    def __jax_array__(self) -> Any:
        return self.value

    def __getattr__(self, name: str) -> Any:
        # Not the protocols by which backends take the value of a variable.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.latent, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.latent, name, value)

    def __repr__(self) -> str:
        return f"<quantized {self.latent.path}: {self.value!r}>"


# By layer and variable, both of which a reading keeps alive. Keras counts a weight once,
# however many ways lead to it, and tells weights apart as objects.
_alive: weakref.WeakValueDictionary[tuple[int, int], Reading] = (
    weakref.WeakValueDictionary()
)


class _Store:
    """What `save_own_variables` writes to, with readings for the latent variables."""

    def __init__(self, store: Any, readings: dict[int, Reading]) -> None:
        self._store = store
        self._readings = readings

    def __setitem__(self, key: str, value: Any) -> None:
        self._store[key] = self._readings.get(id(value), value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Readable:
    """The behaviour of a quantized layer within a quantized scope."""

    def reading(self, attribute: str) -> Any:
        """The value that the attribute of a weight reads as."""
        for slot in weight_slots(self):
            if slot.attribute == attribute:
                return _reading_of(slot)
        return latent(self, attribute)

    def refuse_training_in_scope(self) -> None:
        """Raise where a call of training would take its gradients for readings."""
        # On JAX Keras trains the latent variables, and loses them by an error in a step.
        refused = should_quantize() and keras.backend.backend() != "jax"
        if refused and keras_internals.in_training(self):
            raise QFrameError(
                f"{self!r} cannot be trained within quantized_scope(True), where weights "
                "read as quantized. Leave the scope to train: it is for reading and saving."
            )

    def _by_id(self) -> dict[int, Reading]:
        return {id(slot.variable): _reading_of(slot) for slot in weight_slots(self)}

    @property
    def weights(self) -> list[Any]:
        """The weights; readings of them within a quantized scope."""
        weights: list[Any] = super().weights  # type: ignore[misc]
        if not should_quantize():
            return weights
        readings = self._by_id()
        return [readings.get(id(variable), variable) for variable in weights]

    def save_own_variables(self, store: Any) -> None:
        """Save the variables; the quantized values within a quantized scope."""
        if should_quantize():
            store = _Store(store, self._by_id())
        super().save_own_variables(store)  # type: ignore[misc]


def _reading_of(slot: Slot) -> Reading:
    layer, name, variable = slot.layer, slot.name, slot.variable
    key = id(layer), id(variable)
    reading = _alive.get(key)
    if reading is None:
        # By the name: the slot may hold another quantizer when it is read.
        reading = Reading(variable, lambda: slot_of(layer, name).quantized_value())
        _alive[key] = reading
    return reading
