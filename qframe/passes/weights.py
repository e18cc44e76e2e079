"""The weights of layers as float64 arrays, the channels in them, and their dtypes."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.errors import QFrameError
from qframe.layers.substitution import latent
from qframe.layers.table import TABLE, LayerRow, nearest

Array = NDArray[np.float64]
# The number of the channel of each entry of a weight, in a shape that broadcasts to it.
Channels = NDArray[np.intp]


@attrs.frozen(eq=False)
class OutputPlaces:
    """The channels of an output in the kernel and in the bias that make it.

    Args:
        kernel: the channel of each entry of the kernel.
        bias: the shape of one number for each channel, as it is added to the output.
        bias_axes: the axes of a new bias of an `EinsumDense`; None for other layers.
    """

    kernel: Channels
    bias: tuple[int, ...]
    bias_axes: str | None = None

    @property
    def count(self) -> int:
        """The number of channels."""
        return self.bias[0]


def values_of(variable: Any) -> Array:
    """The values of a variable in float64."""
    return np.asarray(ops.convert_to_numpy(variable)).astype(np.float64)


def write(variable: Any, values: Array, undo: contextlib.ExitStack) -> None:
    """Assign values in the dtype of a variable, and let `undo` restore the present ones."""
    before = ops.convert_to_numpy(variable)
    undo.callback(variable.assign, before)
    variable.assign(np.asarray(values, dtype=before.dtype))


def output_kernel(product: Any) -> Any:
    """The variable of the kernel that makes the output of a layer of products."""
    attribute, _ = _output_weight(product)
    return variable_of(product, attribute)


def variable_of(layer: Any, attribute: str) -> Any:
    """The variable of a weight.

    Raises:
        QFrameError: it is not a variable, as with LoRA.
    """
    weight = latent(layer, attribute)
    if not hasattr(weight, "assign"):
        raise QFrameError(f"the {attribute} of {layer.name!r} is not a variable")
    return weight


def row_of(layer: Any) -> LayerRow:
    """The row of a layer in the table; an empty one without."""
    return nearest(TABLE, type(layer)) or LayerRow()


def _output_weight(product: Any) -> tuple[str, Any]:
    """The attribute of the kernel that makes the output, and its channel axes."""
    weights = row_of(product).weights
    *_, (attribute, _, axis) = [each for each in weights if each[2] is not None]
    return attribute, axis


def channel_axis(layer: Any, rank: int) -> int:
    """The axis of channels of a tensor that a layer of images or sequences takes."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 1 if first else rank - 1


def output_places(product: Any, axis: int, rank: int) -> OutputPlaces | None:
    """Find the channels along an axis of the output of a layer of products.

    Args:
        product: the layer.
        axis: the axis, from 0.
        rank: the number of axes of the output, with that of the batch.

    Returns:
        The places; None where the kernel does not make the axis.
    """
    shape = tuple(output_kernel(product).shape)
    if isinstance(product, keras.layers.EinsumDense):
        operands, output = product.equation.replace(" ", "").split("->")
        kernel, label = operands.split(",")[1], labels(output, rank)[axis]
        if not label or kernel.count(label) != 1 or output.count(label) != 1:
            return None
        place = kernel.index(label)
        bias = (shape[place], *(1,) * (rank - 1 - axis))
        return OutputPlaces(numbered(shape, (place,)), bias, label)
    if axis != channel_axis(product, rank):
        return None
    _, axes = _output_weight(product)
    kept = tuple(each % len(shape) for each in np.atleast_1d(np.asarray(axes)))
    return OutputPlaces(numbered(shape, kept), (int(np.prod([shape[i] for i in kept])),))


def labels(operand: str, rank: int) -> list[str]:
    """The label of each axis of an operand of an einsum; empty for an elided one."""
    letters = operand.replace("...", "")
    others = [""] * (rank - len(letters))
    return [*others, *letters] if operand.startswith(".") else [*letters, *others]


def numbered(shape: tuple[int, ...], axes: tuple[int, ...]) -> Channels:
    """Numbers of channels that count along some axes of a weight."""
    sizes = [n if i in axes else 1 for i, n in enumerate(shape)]
    return np.arange(int(np.prod(sizes))).reshape(sizes)


def bias_channels(product: Any, places: OutputPlaces) -> Channels:
    """The channel of each entry of the bias of a layer.

    Raises:
        QFrameError: the bias is the same for all channels.
    """
    shape = tuple(latent(product, "bias").shape)
    # That of an `EinsumDense` may have more axes, before and after that of the channels.
    place = len(shape) - len(places.bias)
    if place < 0 or shape[place] != places.count:
        raise QFrameError(
            f"the bias of {product.name!r} has bias_axes={product.bias_axes!r}, without "
            "the axis of the channels"
        )
    return numbered(shape, (place,))


def largest(values: Array, channels: Channels, count: int) -> Array:
    """The largest magnitude of each channel, 0 for one without an entry."""
    others = tuple(i for i, size in enumerate(channels.shape) if size == 1)
    peaks = np.abs(values).max(axis=others, keepdims=True, initial=0)
    result = np.zeros(count)
    np.maximum.at(result, channels, peaks)
    return result


def check_fits(text: str, numbers: Array, dtype: str) -> None:
    """Raise where numbers are larger than a dtype can represent.

    Args:
        text: the numbers, for the error.
        numbers: the numbers, all finite.
        dtype: the name of the dtype.
    """
    _, largest_number = _limits(dtype)
    if np.abs(numbers).max(initial=0) > largest_number:
        raise QFrameError(
            f"{text} do not fit {dtype}: they are larger than {largest_number:.3g}"
        )


def check_digits(text: str, before: Array, after: Array, dtype: str) -> None:
    """Raise where a channel loses its digits in a dtype.

    Args:
        text: the numbers, for the error.
        before: the largest magnitude of each channel before a change.
        after: and after it.
        dtype: the name of the dtype.
    """
    smallest, _ = _limits(dtype)
    if ((after > 0) & (after < smallest) & (before >= smallest)).any():
        raise QFrameError(
            f"{text} does not fit {dtype}: a channel has no number larger than "
            f"{smallest:.3g}"
        )


def _limits(dtype: str) -> tuple[float, float]:
    """The smallest number with all digits in any processor, and the largest number."""
    limits = np.finfo("float32" if dtype == "bfloat16" else dtype)
    largest_number = (2 - 2**-7) * 2.0**127 if dtype == "bfloat16" else float(limits.max)
    # Processors may take smaller numbers for 0, which is an error of one in the last place
    # of the largest number then. They do not where numbers have few exponents.
    smallest = float(limits.tiny) / (1 if dtype == "float16" else float(limits.eps))
    return smallest, largest_number


def dtypes_of(layer: Any, variable: Any) -> list[str]:
    """The dtypes that a variable of a layer is stored and computed in."""
    return sorted({str(variable.dtype), str(layer.compute_dtype)})
