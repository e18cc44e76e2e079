"""A layer while it is being called."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import Operation, StatelessScope, ops
from keras.layers import Layer
from keras.src.backend import compute_output_spec
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import AutocastScope

from qframe.keras_internals.structure import all_layers

# What Keras draws seeds from makes itself at the first draw.
_GENERATOR = "global_seed_generator"
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


def is_library(module: str) -> bool:
    """Whether a module is of Python, Keras, its backends or qframe, and not of a user."""
    top = module.partition(".")[0]
    return top in _LIBRARIES or top in sys.stdlib_module_names


def variables_read(
    layer: Any, args: Any, kwargs: Any, unless: Callable[[], bool]
) -> tuple[list[tuple[Any, Any]], bool]:
    """The variables that code of users reads in a call.

    Keras makes the call without numbers. What the code itself changes is as before then.

    Args:
        layer: to be called.
        args: what with, with a `keras.KerasTensor` for each tensor.
        kwargs: the same by name.
        unless: asked at each read, whether that one does not count.

    Returns:
        The reads: a variable, and the layer or operation in whose call it is read; and
        whether the call came to its end. What was read before an error counts.
    """
    found = []

    class Noting(StatelessScope):
        def get_current_value(self, variable: Any) -> Any:
            reader = None if unless() else _reader()
            if reader is not None:
                found.append((variable, reader))
            return super().get_current_value(variable)

    def noted(*args: Any, **kwargs: Any) -> Any:
        with Noting():
            return layer(*args, **kwargs)

    with _undisturbed(layer):
        try:
            compute_output_spec(noted, *args, **kwargs)
        except Exception:  # anybody's code
            return found, False
    return found, True


def _reader() -> Any:
    """In whose call code of users reads a variable; None where it is other code."""
    of_users = False
    frame = inspect.currentframe()
    while frame is not None:
        code, module = frame.f_code, str(frame.f_globals.get("__name__"))
        asks_a_shape = code.co_name == "shape" and module.startswith("keras.")
        if asks_a_shape or code is latent_value.__code__:
            return None
        of_users = of_users or not is_library(module)
        if code.co_name == "call" and code.co_argcount:
            caller = frame.f_locals.get(code.co_varnames[0])
            if isinstance(caller, Layer):
                return caller if of_users else None
            # One of a graph has the variable for an argument.
            if isinstance(caller, Operation) and not of_users:
                return caller
        frame = frame.f_back
    return None


@contextlib.contextmanager
def _undisturbed(layer: Any) -> Iterator[None]:
    """Let what the code of a layer sets or draws be as before after the block."""
    parts = [(part, dict(vars(part)), list(part._losses)) for part in all_layers(layer)]
    generator = global_state.get_global_attribute(_GENERATOR)
    states = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        global_state.set_global_attribute(_GENERATOR, generator)
        for part, before, losses in parts:
            now = vars(part)
            for name in [name for name in now if name not in before]:
                del now[name]
            now.update(before)
            part._losses[:] = losses


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
