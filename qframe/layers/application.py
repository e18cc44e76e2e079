"""The application of quantizers to tensors of a layer, with errors that name the layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from qframe import context, keras_internals
from qframe.errors import QFrameError
from qframe.layers.adapters import slot_attribute
from qframe.quantizers import Quantizer
from qframe.quantizers.channels import ChannelAxis
from qframe.quantizers.observed import is_of_observer


def quantized(quantizer: Any, value: Any, channel_axis: ChannelAxis, **kwargs: Any) -> Any:
    """``quantizer(value)``, checked to preserve shape and dtype."""
    if isinstance(quantizer, Quantizer) and quantizer.traits.channelwise:
        kwargs["channel_axis"] = channel_axis
    result = quantizer(value, **kwargs)
    shape = getattr(result, "shape", None)
    if shape is None or tuple(shape) != tuple(value.shape):
        raise QFrameError(
            f"quantizer {quantizer!r} changed the shape of its input from "
            f"{tuple(value.shape)} to {shape}; a quantizer keeps the shape."
        )
    before, after = (keras.backend.standardize_dtype(t.dtype) for t in (value, result))
    if after != before and "float" in before:
        raise QFrameError(
            f"quantizer {quantizer!r} changed the dtype of its input from {before} to "
            f"{after}; cast its result back to the dtype of the input."
        )
    return result


def path_of(layer: Any) -> str:
    """The path of a layer: its name after those of the layers that it was built in."""
    return getattr(layer, "path", None) or str(layer.name)


@contextlib.contextmanager
def errors_located(path: str, slot: str, shape: Any = None) -> Iterator[None]:
    """Prefix the errors of a quantizer with the path of its layer and its slot."""
    try:
        yield
    except Exception as error:
        original = keras_internals.original_error(error)
        cls, text = type(original), str(original)
        if not isinstance(original, QFrameError):
            if is_of_observer(original):
                raise
            cls, text = QFrameError, f"it raised {cls.__name__}: {text}. {_HINT}"
        key = slot_attribute(slot)
        place = f"{path!r}, {key}" if shape is None else f"{path!r}, {key} on {shape}"
        raise keras_internals.without_call_details(cls(f"{place}: {text}")) from original


_HINT = "Correct the quantizer, or give this layer another one, or None."


def check_fit(
    quantizer: Any, shape: tuple[int, ...], dtype: Any, axis: ChannelAxis
) -> None:
    """Raise if a quantizer, built if it has state, would fail on a weight.

    It is called on ones of that shape, unless it is known to fit.

    Raises:
        Exception: an error of the quantizer; a QFrameError if it changes the shape or the
            dtype.
    """
    if not isinstance(quantizer, Quantizer) or not quantizer.fits(shape, axis):
        try_quantizer(quantizer, shape, dtype, axis)


def try_quantizer(
    quantizer: Any, shape: tuple[int, ...], dtype: Any, axis: ChannelAxis
) -> None:
    """Call a quantizer on ones, without a change of its variables or an observer."""
    is_layer = isinstance(quantizer, keras.layers.Layer)
    takes_training = is_layer and keras_internals.takes_training(quantizer)
    # The layer may be built in training, where the call would gather and draw.
    arguments = {"training": False} if takes_training else {}

    def call(value: Any) -> Any:
        return quantized(quantizer, value, axis, **arguments)

    with keras.StatelessScope(), context.scoped(observer=None):
        if keras.backend.backend() == "jax":
            # An eager call would compile each operation for the shape. A quantizer that
            # needs numbers cannot be traced, and is called below.
            with contextlib.suppress(Exception):
                _Traced(call)(keras.KerasTensor(shape, dtype))
                return
        call(ops.ones(shape, dtype=dtype))


class _Traced(keras.Operation):
    """A function that Keras traces for its shape and dtype."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.call = function
