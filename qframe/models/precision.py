"""How many bits a weight or an activation has."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.adapters import adapter_of, slot_attribute
from qframe.layers.slots import slots_of
from qframe.models.records import FLOAT_BITS
from qframe.quantizers import Quantizer

UNKNOWN = "?"
# Bits of an activation: a number, None where it is not quantized, UNKNOWN where its
# quantizer does not say.
Bits = int | str | None


def dtype_bits(dtype: Any) -> int:
    """The bits that one element of a dtype takes."""
    digits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return int(digits.group()) if digits else 8  # bool


def quantizer_bits(quantizer: Any) -> Bits:
    """What a quantizer declares; None for no quantizer, UNKNOWN where it does not."""
    if quantizer is None:
        return None
    precision = getattr(quantizer, "precision", None)
    if isinstance(precision, numbers.Integral) and not isinstance(precision, bool):
        return int(precision)
    return UNKNOWN


def slot_bits(layer: Any, slot: str) -> Bits:
    """The bits of what is in a slot of a layer."""
    return quantizer_bits(getattr(layer, slot_attribute(slot), None))


def mac_precision(*factors: Bits) -> int:
    """The precision of a product: that of the wider factor."""
    return max(bits if isinstance(bits, int) else FLOAT_BITS for bits in factors)


class StoredBits:
    """The bits of each weight of a layer and of the layers within it."""

    def __init__(self, layer: Any) -> None:
        # The variable stays alive with its entry: no other gets its id.
        self._declared: dict[int, tuple[Any, int, int]] = {}
        self._add(layer)

    def _add(self, layer: Any) -> None:
        for slot in slots_of(layer):
            bits = quantizer_bits(slot.quantizer)
            # As the layer reads it, which in a quantized scope is no latent variable.
            variable = None if slot.is_activation else getattr(layer, slot.attribute, None)
            if variable is not None and isinstance(bits, int):
                scales = 0
                if isinstance(slot.quantizer, Quantizer):
                    shape = tuple(variable.shape)
                    scales = slot.quantizer.bits_of_scales(shape, slot.channel_axis)
                self._declared[id(variable)] = variable, bits, scales
        for part in keras_internals.sublayers(layer):
            self._add(part)

    def of(self, variable: Any) -> int:
        """The bits of a variable: those its quantizer declares, else those of its dtype."""
        if id(variable) in self._declared:
            return self._declared[id(variable)][1]
        return dtype_bits(variable.dtype)

    def of_scales(self, variable: Any) -> int:
        """What the scales and zero points take that the quantizer computes."""
        return self._declared[id(variable)][2] if id(variable) in self._declared else 0


def layer_classes(names: str) -> tuple[type, ...]:
    """The layers of Keras with these names."""
    # Not every Keras has all of them.
    known = (getattr(keras.layers, name, None) for name in names.split())
    return tuple(cls for cls in known if cls is not None)


# Every value that these return is one of their inputs.
KEEP_THE_GRID = layer_classes(
    "Flatten Reshape Permute RepeatVector Identity ActivityRegularization "
    "MaxPooling1D MaxPooling2D MaxPooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D "
    "Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling3D "
    "Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout "
    "GaussianDropout GaussianNoise"
)


def output_bits(layer: Any, inputs: Iterable[Bits]) -> Bits:
    """The bits of what a layer returns, for inputs of so many bits."""
    if isinstance(layer, Quantizer):
        return quantizer_bits(layer)
    if (slot := slot_bits(layer, "output")) is not None:
        return slot
    if not isinstance(layer, keras.layers.Layer) or not keras_internals.runs_keras(layer):
        return None
    all_bits = list(inputs)
    first = all_bits[0] if all_bits else None
    if isinstance(layer, keras.layers.Activation):
        linear = layer.activation is keras.activations.linear
        return first if linear else _activation_bits(layer.activation)
    if adapter_of(type(layer)) is not None:
        return _activation_bits(getattr(layer, "activation", None))
    if isinstance(layer, keras.layers.Concatenate):
        numbers_only = [bits for bits in all_bits if isinstance(bits, int)]
        return max(numbers_only) if all_bits and numbers_only == all_bits else None
    if isinstance(layer, keras.layers.UpSampling2D):
        return first if layer.interpolation == "nearest" else None
    return first if isinstance(layer, KEEP_THE_GRID) else None


def _activation_bits(activation: Any) -> Bits:
    bits = quantizer_bits(activation)
    # An ordinary activation is no quantizer that failed to declare its precision.
    return bits if isinstance(activation, Quantizer) or bits != UNKNOWN else None
