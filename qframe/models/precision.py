"""The number of bits of weights and activations."""

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
# The bits of an activation are a number, None where it is not quantized, or UNKNOWN where
# its quantizer declares none.
Bits = int | str | None


def dtype_bits(dtype: Any) -> int:
    """Return the bits of one element of a dtype."""
    digits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return int(digits.group()) if digits else 8  # bool


def quantizer_bits(quantizer: Any) -> Bits:
    """Return the bits that a quantizer declares; None without a quantizer."""
    if quantizer is None:
        return None
    precision = getattr(quantizer, "precision", None)
    if isinstance(precision, numbers.Integral) and not isinstance(precision, bool):
        return int(precision)
    return UNKNOWN


def slot_bits(layer: Any, slot: str) -> Bits:
    """Return the bits of the quantizer in a slot of a layer."""
    return quantizer_bits(getattr(layer, slot_attribute(slot), None))


def mac_precision(*factors: Bits) -> int:
    """Return the precision of a product, that of the wider factor."""
    return max(bits if isinstance(bits, int) else FLOAT_BITS for bits in factors)


class StoredBits:
    """The bits of each weight of a layer and of its sublayers."""

    def __init__(self, layer: Any) -> None:
        # A reference to the variable, so that no other object gets its id.
        self._declared: dict[int, tuple[Any, int, int]] = {}
        self._add(layer)

    def _add(self, layer: Any) -> None:
        for slot in slots_of(layer):
            bits = quantizer_bits(slot.quantizer)
            # A quantized scope substitutes the attribute of the layer.
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
        """Return the bits that a quantizer declares for a variable, else of its dtype."""
        if id(variable) in self._declared:
            return self._declared[id(variable)][1]
        return dtype_bits(variable.dtype)

    def of_scales(self, variable: Any) -> int:
        """Return the bits of the scales and zero points that a quantizer computes."""
        return self._declared[id(variable)][2] if id(variable) in self._declared else 0


def layer_classes(names: str) -> tuple[type, ...]:
    """Return the layer classes with these names; not every Keras has all of them."""
    classes = (getattr(keras.layers, name, None) for name in names.split())
    return tuple(cls for cls in classes if cls is not None)


# Every value in their outputs is one of their inputs.
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
    """Return the bits of the outputs of a layer for the bits of its inputs."""
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
        known = [bits for bits in all_bits if isinstance(bits, int)]
        return max(known) if known and known == all_bits else None
    if isinstance(layer, keras.layers.UpSampling2D):
        return first if layer.interpolation == "nearest" else None
    return first if isinstance(layer, KEEP_THE_GRID) else None


def _activation_bits(activation: Any) -> Bits:
    bits = quantizer_bits(activation)
    # An activation function is not a quantizer without a declared precision.
    return bits if isinstance(activation, Quantizer) or bits != UNKNOWN else None
