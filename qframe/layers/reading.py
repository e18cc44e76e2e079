"""Weights that read as their quantized values outside of calls too."""

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
    """A proxy of a latent variable that reads as its quantized value."""

    def __init__(self, latent: Any, read: Callable[[], Any]) -> None:
        self.__dict__.update(latent=latent, _read=read)

    @property
    def value(self) -> Any:
        """The quantized value."""
        # Lazily: while JAX trains, the variables have no values.
        return self._read()

    def numpy(self) -> NDArray[Any]:
        """The quantized value as a NumPy array."""
        return np.asarray(ops.convert_to_numpy(self.value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype)

    def __jax_array__(self) -> Any:
        return self.value

    def __getattr__(self, name: str) -> Any:
        # Backends would take the latent value by their protocols.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.latent, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.latent, name, value)

    def __repr__(self) -> str:
        return f"<quantized {self.latent.path}: {self.value!r}>"


# By the ids of layer and variable, both of which a reading keeps alive. Each weight has one
# reading, since Keras counts weights by identity.
_alive = weakref.WeakValueDictionary[tuple[int, int], Reading]()


class _Store:
    """The store of `save_own_variables`, with readings in place of latent variables."""

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
        """Raise in a call of training, whose gradients would be those of readings."""
        # JAX trains the latent variables, and an error in a step would lose their values.
        refused = should_quantize() and keras.backend.backend() != "jax"
        if refused and keras_internals.in_training(self):
            raise QFrameError(
                f"{self!r} cannot be trained within quantized_scope(True), where weights "
                "read as quantized. Leave the scope to train: it is for reading and saving."
            )

    def _readings(self) -> dict[int, Reading]:
        """The readings by the ids of the latent variables."""
        return {id(slot.variable): _reading_of(slot) for slot in weight_slots(self)}

    @property
    def weights(self) -> list[Any]:
        """The weights; readings of them within a quantized scope."""
        weights: list[Any] = super().weights  # type: ignore[misc]
        if not should_quantize():
            return weights
        readings = self._readings()
        return [readings.get(id(variable), variable) for variable in weights]

    def save_own_variables(self, store: Any) -> None:
        """Save the variables; the quantized values within a quantized scope."""
        if should_quantize():
            store = _Store(store, self._readings())
        super().save_own_variables(store)  # type: ignore[misc]


def _reading_of(slot: Slot) -> Reading:
    layer, name, variable = slot.layer, slot.name, slot.variable
    key = id(layer), id(variable)
    reading = _alive.get(key)
    if reading is None:
        # By name, since the quantizer of the slot may be replaced before it is read.
        reading = Reading(variable, lambda: slot_of(layer, name).quantized_value())
        _alive[key] = reading
    return reading
