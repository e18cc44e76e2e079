"""A layer while it is being called."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from keras import Operation, StatelessScope, ops
from keras.src.backend import compute_output_spec
from keras.src.backend.common.variables import AutocastScope


def latent_value(variable: Any) -> Any:
    """The value of a variable (or tensor) in its own dtype, whatever is being called.

    While a layer of a mixed-precision policy is being called, Keras casts each variable
    as it is read. Quantizing after that cast would take the sign of an underflowed zero.
    """
    with AutocastScope(None):
        # TensorFlow's convert_to_tensor returns the tf.Variable, which custom gradients
        # refuse in eager mode; a copy is a real read.
        return ops.copy(variable)


def in_training(layer: Any) -> bool:
    """Whether the call that a layer is in, its own or one around it, is one of training."""
    context = layer._get_call_context()
    # Newer Keras keeps any number of such values, by name.
    get = getattr(context, "get_value", None)
    return bool(get("training") if get else context.training)


@contextlib.contextmanager
def training_restored(layer: Any) -> Iterator[None]:
    """Let what is called after a layer be in training as before, whatever that is told.

    Keras takes what one layer of a call is told for what holds from there on.
    """
    context = layer._get_call_context()
    before = getattr(context, "training", None)
    try:
        yield
    finally:
        context.training = before


def takes_training(layer: Any) -> bool:
    """Whether the call of a layer has the argument that `fit` tells it to train with."""
    takes: bool = layer._call_has_training_arg
    return takes


def variables_read(
    layer: Any, args: Any, kwargs: Any, unless: Callable[[], bool]
) -> list[tuple[Any, Any]]:
    """The variables that are read in a call, each with the layer whose own code does it.

    Keras makes the call without numbers, so that nothing changes. What was read before an
    error counts.

    Args:
        layer: to be called.
        args: what with, with a `keras.KerasTensor` for each tensor.
        kwargs: the same by name.
        unless: asked at each read, whether that one does not count.
    """
    found = []

    class Noting(StatelessScope):
        def get_current_value(self, variable: Any) -> Any:
            caller = None if unless() else _caller()
            if caller is not None:
                found.append((variable, caller))
            return super().get_current_value(variable)

    def noted(*args: Any, **kwargs: Any) -> Any:
        with Noting():
            return layer(*args, **kwargs)

    with contextlib.suppress(Exception):  # anybody's code
        compute_output_spec(noted, *args, **kwargs)
    return found


def _caller() -> Any:
    """The layer whose call is nearest among those that are running.

    None where there is none, or where a weight is read to be quantized.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not latent_value.__code__:
        caller = frame.f_locals.get("self") if frame.f_code.co_name == "call" else None
        if isinstance(caller, Operation):
            return caller
        frame = frame.f_back
    return None


def before_arguments(error: Exception) -> Exception:
    """An error as it was raised, before Keras wrote the arguments of the call around it."""
    text = str(error.args[0]) if error.args else ""
    wrapped = text.startswith("Exception encountered when calling")
    before = error.__context__
    return before if wrapped and isinstance(before, Exception) else error


def as_it_is(error: Exception) -> Exception:
    """An error that Keras passes on without the arguments of the call around it."""
    error._keras_call_info_injected = True  # type: ignore[attr-defined]
    return error
