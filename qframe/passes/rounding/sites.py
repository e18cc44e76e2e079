"""The weights of a model that can be rounded, and the reasons of the others."""

from __future__ import annotations

import collections
from typing import Any

import attrs
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.errors import ArgumentError, QFrameError
from qframe.layers.attachment import float_class_of
from qframe.layers.slots import Slot, slots_of, weight_slots
from qframe.layers.tree import iter_slots
from qframe.passes.rounding.matrices import Matrices, matrices_of
from qframe.quantizers import Quantizer
from qframe.quantizers.rounded import Corrected, Rounded


@attrs.frozen(eq=False)
class Target:
    """A kernel to round.

    Args:
        slot: its slot.
        levels: the integers of its quantizer.
        matrices: its layer as matrices.
        bias: the slot of the bias; None without one that can be corrected.
    """

    slot: Slot
    levels: range
    matrices: Matrices
    bias: Slot | None

    @property
    def quantizer(self) -> Quantizer:
        """The quantizer of the kernel before it was rounded."""
        quantizer: Quantizer = before(self.slot.quantizer)
        return quantizer

    def weights(self) -> NDArray[np.float64]:
        """The latent weights as matrices."""
        return latent_array(self.slot).ravel()[self.matrices.order]


def before(quantizer: Any) -> Any:
    """The quantizer of a slot before `round_weights`."""
    return quantizer.inner if isinstance(quantizer, (Rounded, Corrected)) else quantizer


def targets_of(model: Any) -> tuple[list[Target], list[tuple[Slot, str]]]:
    """The kernels of a model to round, and the others with their reasons.

    Raises:
        ArgumentError: no weight is quantized.
    """
    slots = list(iter_slots(model, weight_slots))
    if not slots:
        raise ArgumentError(
            f"no weight of {model.name!r} is quantized. Quantize it first, and calibrate "
            "it if it has ranges: qframe.quantize(model, 'w4a8'); "
            "qframe.calibrate(model, data)."
        )
    counts = collections.Counter(id(slot.variable) for slot in slots)
    targets, others = [], []
    for slot in slots:
        weight = slot.weight
        if weight is None or weight.channel_axis is None:
            continue  # a bias
        try:
            targets.append(_target(slot, counts[id(slot.variable)]))
        except QFrameError as error:
            others.append((slot, str(error)))
    return targets, others


def latent_array(slot: Slot) -> NDArray[np.float64]:
    """The latent weight in float64."""
    # NumPy has no bfloat16.
    value = ops.convert_to_numpy(ops.cast(slot.latent_value(), "float32"))
    return np.asarray(value, np.float64)


def kind_of(slot: Slot) -> str:
    """The name of the class of a layer."""
    return str(float_class_of(slot.layer).__name__)


def _target(slot: Slot, count: int) -> Target:
    quantizer, variable = before(slot.quantizer), slot.variable
    if count > 1:
        raise QFrameError("another layer has this weight too")
    if not hasattr(variable, "assign"):
        raise QFrameError(f"its {slot.attribute} is computed, as it is with LoRA")
    levels = quantizer.integer_levels() if isinstance(quantizer, Quantizer) else None
    if levels is None:
        raise QFrameError(f"the values of {quantizer!r} are not evenly spaced")
    if quantizer.traits.tag:
        raise QFrameError(f"{quantizer!r} does not change the values")
    shape = tuple(variable.shape)
    matrices = matrices_of(slot.layer, slot.attribute, shape)
    return Target(slot, levels, matrices, _bias_of(slot))


def _bias_of(slot: Slot) -> Slot | None:
    """The slot of the bias that is added to the products of a kernel."""
    slots = slots_of(slot.layer)
    kernels = [s.attribute for s in slots if s.weight and s.weight.channel_axis is not None]
    for each in slots:
        if each.name == "bias" and hasattr(each.variable, "assign"):
            # Of a separable convolution, those of the second kernel.
            is_last = kernels[-1] == slot.attribute
            return attrs.evolve(each, path=slot.path) if is_last else None
    return None
