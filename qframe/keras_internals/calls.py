"""A layer while it is being called."""

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

from qframe.keras_internals.undisturbed import undisturbed

# Whose code reads weights as their layers mean it.
_LIBRARIES = {"keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", "optree", "qframe"}


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


def is_library(module: Any) -> bool:
    """Whether a module is of Python, Keras, its backends or qframe, and not of a user.

    Args:
        module: its name. Some objects have none, and Cython's have another thing there.
    """
    top = module.partition(".")[0] if isinstance(module, str) else ""
    return not top or top in _LIBRARIES or top in sys.stdlib_module_names


def variables_read(
    layer: Any, args: Any, kwargs: Any, unless: Callable[[], bool]
) -> tuple[list[tuple[Any, list[Any]]], bool]:
    """The variables that code of users reads in a call.

    Keras makes the call without numbers, and `undisturbed` puts back what it changes.

    Args:
        layer: to be called.
        args: what with, with a `keras.KerasTensor` for each tensor.
        kwargs: the same by name.
        unless: asked at each read, whether that one does not count.

    Returns:
        The reads: a variable, and the layers and operations whose calls were running, the
        innermost first; and whether the call came to its end. What was read before an
        error counts.
    """
    found = []

    class Noting(StatelessScope):
        def get_current_value(self, variable: Any) -> Any:
            readers = [] if unless() else _readers()
            if readers:
                found.append((variable, readers))
            return super().get_current_value(variable)

    def noted(*args: Any, **kwargs: Any) -> Any:
        with Noting():
            return layer(*args, **kwargs)

    with undisturbed(layer), _untraced():
        try:
            compute_output_spec(noted, *args, **kwargs)
        except Exception:  # anybody's code
            return found, False
    return found, True


def _readers() -> list[Any]:
    """In whose calls code of users reads a variable; none where it is other code."""
    readers: list[Any] = []
    of_users = False
    frame = inspect.currentframe()
    while frame is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__")
        own = not is_library(module)
        of_users = of_users or own
        if code is latent_value.__code__ or (code.co_name == "shape" and not own):
            return []
        if code.co_argcount and (own or code.co_name == "call"):
            caller = frame.f_locals.get(code.co_varnames[0])
            if isinstance(caller, Operation) and _is_call(caller, code):
                # An operation of a graph has the variable for an argument.
                if not readers and not of_users and isinstance(caller, Layer):
                    return []
                if isinstance(caller, Layer) or not of_users:
                    readers.append(caller)
        frame = frame.f_back
    return readers


def _is_call(caller: Any, code: Any) -> bool:
    """Whether code is that of the call of an operation, under whatever name."""
    call = inspect.unwrap(type(caller).call)
    return code.co_name == "call" or code is getattr(call, "__code__", None)


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    """Let functions of TensorFlow run as Python, and keep nothing of a call.

    What they traced without numbers they would go on to use, without its assignments.
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
