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


def quantized(quantizer: Any, value: Any, channel_axis: ChannelAxis, **kwargs: Any) -> Any:
    """``quantizer(value)``, checked to keep shape and dtype."""
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
    """Where a layer says that it is: with the layers that it was built in."""
    return getattr(layer, "path", None) or str(layer.name)


@contextlib.contextmanager
def located(path: str, slot: str, shape: Any = None) -> Iterator[None]:
    """Let what a quantizer raises begin with the path of its layer and its slot."""
    try:
        yield
    except Exception as error:
        first = keras_internals.before_arguments(error)
        if context.current().observer is not None and not isinstance(first, QFrameError):
            raise  # the observer may have raised it
        key = slot_attribute(slot)
        place = f"{path!r}, {key}" if shape is None else f"{path!r}, {key} on {shape}"
        ours = isinstance(first, QFrameError)
        text = first if ours else f"it raised {type(first).__name__}: {first}. {_HINT}"
        cls = type(first) if ours else QFrameError
        raise keras_internals.as_it_is(cls(f"{place}: {text}")) from first


_HINT = "Correct the quantizer, or give this layer another one, or None."


def check_fit(
    quantizer: Any, shape: tuple[int, ...], dtype: Any, axis: ChannelAxis
) -> None:
    """Raise where a quantizer would fail on a weight in the first call of a layer.

    It is tried on ones of that shape, unless it is known to fit.

    Args:
        quantizer: one with state is built.
        shape: of the weight.
        dtype: of the weight.
        axis: of its channels.

    Raises:
        Exception: what the quantizer raises; a QFrameError where it does not keep the shape
            or the dtype.
    """
    if not isinstance(quantizer, Quantizer) or not quantizer.fits(shape, axis):
        try_on(quantizer, shape, dtype, axis)


def try_on(quantizer: Any, shape: tuple[int, ...], dtype: Any, axis: ChannelAxis) -> None:
    """Call a quantizer on ones; its variables and what is around it stay as they are."""
    layer = isinstance(quantizer, keras.layers.Layer)
    # Training, in which a layer may be built, would gather and draw.
    still = (
        {"training": False} if layer and keras_internals.takes_training(quantizer) else {}
    )

    def call(value: Any) -> Any:
        return quantized(quantizer, value, axis, **still)

    with keras.StatelessScope(), context.scoped(observer=None):
        if keras.backend.backend() == "jax":
            # It would compile each operation for the shape. What needs numbers goes on.
            with contextlib.suppress(Exception):
                _Traced(call)(keras.KerasTensor(shape, dtype))
                return
        call(ops.ones(shape, dtype=dtype))


class _Traced(keras.Operation):
    """A function that Keras traces for its shape and dtype."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.call = function
