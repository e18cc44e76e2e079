"""The state of a layer during a call."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from keras import Operation, StatelessScope, ops
from keras.config import backend
from keras.layers import Layer
from keras.src.backend import compute_output_spec
from keras.src.backend.common.variables import AutocastScope

from qframe.keras_internals.side_effects import side_effects_undone

# Packages whose code reads weights only as their layers intend.
_LIBRARIES = {"keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", "optree", "qframe"}


def latent_value(variable: Any) -> Any:
    """The value of a variable (or tensor) in its dtype, without autocast.

    In the call of a layer with a mixed-precision policy, Keras casts each variable as it
    is read. A quantizer after that cast would take the sign of an underflowed zero.
    """
    with AutocastScope(None):
        # TensorFlow's convert_to_tensor returns the tf.Variable, which custom gradients
        # refuse in eager mode; a copy is a real read.
        return ops.copy(variable)


def in_training(layer: Any) -> bool:
    """Return whether the current call, of a layer or around it, is one of training."""
    context = layer._get_call_context()
    # Newer versions of Keras keep several such values by name.
    get = getattr(context, "get_value", None)
    return bool(get("training") if get else context.training)


@contextlib.contextmanager
def training_restored(layer: Any) -> Iterator[None]:
    """Restore the training flag of the current call after the call of a layer.

    Keras would apply the argument of that layer to all layers that are called later.
    """
    context = layer._get_call_context()
    before = getattr(context, "training", None)
    try:
        yield
    finally:
        context.training = before


def takes_training(layer: Any) -> bool:
    """Return whether the call of a layer has the argument ``training``."""
    return bool(layer._call_has_training_arg)


def is_library(module: Any) -> bool:
    """Return whether a module belongs to Python, Keras, its backends or qframe."""
    # Some objects have no module, and those of Cython another object in its place.
    top = module.partition(".")[0] if isinstance(module, str) else ""
    return not top or top in _LIBRARIES or top in sys.stdlib_module_names


def variables_read(
    layer: Any, args: Any, kwargs: Any, unless: Callable[[], bool]
) -> tuple[list[tuple[Any, list[Any]]], bool]:
    """The variables that the code of users reads in a call.

    The call is symbolic, and its side effects are undone.

    Args:
        layer: the layer to call.
        args: its arguments, with a `keras.KerasTensor` for each tensor.
        kwargs: its keyword arguments.
        unless: a function that returns whether to ignore the current read.

    Returns:
        The reads, each a variable and the layers and operations whose calls were running,
        the innermost first; and whether the call completed. Reads before an error count.
    """
    reads = []

    class RecordingScope(StatelessScope):
        def get_current_value(self, variable: Any) -> Any:
            readers = [] if unless() else _readers()
            if readers:
                reads.append((variable, readers))
            return super().get_current_value(variable)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        with RecordingScope():
            return layer(*args, **kwargs)

    with side_effects_undone(layer), _untraced():
        try:
            compute_output_spec(recorded, *args, **kwargs)
        except Exception:  # the code of users can raise anything
            return reads, False
    return reads, True


def _readers() -> list[Any]:
    """The layers in whose calls the code of users reads a variable; else empty."""
    readers: list[Any] = []
    of_users = False
    frame = inspect.currentframe()
    while frame is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__")
        library = is_library(module)
        of_users = of_users or not library
        if code is latent_value.__code__ or (code.co_name == "shape" and library):
            return []
        if code.co_argcount and (not library or code.co_name == "call"):
            caller = frame.f_locals.get(code.co_varnames[0])
            if isinstance(caller, Operation) and _is_call(caller, code):
                # In a graph the variable is an argument of an operation.
                if not readers and not of_users and isinstance(caller, Layer):
                    return []
                if isinstance(caller, Layer) or not of_users:
                    readers.append(caller)
        frame = frame.f_back
    return readers


def _is_call(caller: Any, code: Any) -> bool:
    """Return whether code is that of the call of an operation, under any name."""
    call = inspect.unwrap(type(caller).call)
    return code.co_name == "call" or code is getattr(call, "__code__", None)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Let functions of TensorFlow run eagerly, without a trace.

    They would reuse the trace of a symbolic call, which lacks its assignments.
    """
    if backend() != "tensorflow":
        yield
        return
    from tensorflow import config

    before = config.functions_run_eagerly()
    config.run_functions_eagerly(True)
    try:
        yield
    finally:
        config.run_functions_eagerly(before)


def original_error(error: Exception) -> Exception:
    """An error as it was raised, before Keras added the arguments of the call."""
    text = str(error.args[0]) if error.args else ""
    wrapped = text.startswith("Exception encountered when calling")
    original = error.__context__
    return original if wrapped and isinstance(original, Exception) else error


def without_call_details(error: Exception) -> Exception:
    """The error, marked so that Keras does not add the arguments of the call."""
    error._keras_call_info_injected = True  # type: ignore[attr-defined]
    return error
