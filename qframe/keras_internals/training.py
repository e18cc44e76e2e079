"""Live models, their traced functions, and their state in training."""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from collections.abc import Iterator
from typing import Any

from keras import Model, ops
from keras.config import backend
from keras.src.trainers.trainer import Trainer


def steps_of(optimizer: Any) -> Any:
    """The variable that counts the calls of an optimizer, the argument of schedules.

    The public `iterations` counts less often if gradients are accumulated.
    """
    return optimizer._iterations


def trained_variables(optimizer: Any) -> list[Any]:
    """The variables of a model that an optimizer was built with, in order."""
    return list(optimizer._trainable_variables)


def copy_exclusions(optimizer: Any, new: Any) -> None:
    """Let a new optimizer, not built yet, exclude the same variables from weight decay."""
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):
            setattr(new, name, getattr(optimizer, name))


def models_alive() -> list[Any]:
    """All live models, whatever refers to them."""
    alive = [reference() for reference in _MODELS.valuerefs()]
    # A model whose construction failed may still be alive, without layers.
    return [model for model in alive if getattr(model, "_layers", None)]


def tracing_models() -> list[Any]:
    """The live models that have a traced function."""
    return [model for model in models_alive() if traced_functions(model)]


def _models() -> weakref.WeakValueDictionary[int, Any]:
    """The current and future live models, by id.

    A layer has no reference to the models around it, and Keras has no list of models. A
    search among all objects at each change of a layer would take longer than the change.
    """
    models: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    init = Trainer.__init__

    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        models[id(self)] = self

    Trainer.__init__ = recorded
    classes, level = {Model}, [Model]
    while level:
        level = [subclass for cls in level for subclass in cls.__subclasses__()]
        classes.update(level)
    # By type, since `isinstance` would load lazy modules.
    for candidate in gc.get_objects():
        if type(candidate) in classes:
            models[id(candidate)] = candidate
    return models


_MODELS = _models()


def traced_functions(model: Any) -> dict[str, Any]:
    """The traced functions of a model by name: `x_function` of `make_x_function`.

    These are the functions of Keras's trainers, and `generate_function` in KerasHub.
    """
    cls: Any = type(model)
    functions = {name: getattr(model, name, None) for name in _names_of_functions(cls)}
    return {name: value for name, value in functions.items() if value is not None}


@functools.cache
def _names_of_functions(cls: Any) -> tuple[str, ...]:
    makers = [n for n in dir(cls) if n.startswith("make_") and n.endswith("_function")]
    return tuple(name.removeprefix("make_") for name in makers)


def make_function(model: Any, name: str) -> None:
    """Create a traced function of a model again, for a new trace.

    A running `fit` calls it at its next step.
    """
    setattr(model, name, None)
    key = name.replace("_function", "_step")
    before = model.__dict__.get(key)
    if backend() == "jax" and hasattr(model, key):
        # JAX caches compiled code by function, so the step must be a new object.
        model.__dict__[key] = functools.partial(getattr(model, key))
    try:
        getattr(type(model), f"make_{name}")(model)
    finally:
        model.__dict__.pop(key, None)
        if before is not None:
            model.__dict__[key] = before


def sync_state(model: Any) -> None:
    """Return the state that JAX has taken for training to the variables of a model."""
    if not getattr(model, "_jax_state_synced", True):
        # The next step takes the state again.
        model.jax_state_sync()


@contextlib.contextmanager
def restored_on_failure(model: Any) -> Iterator[None]:
    """Restore the values of the variables if a step on JAX fails.

    The trainers of Keras take the values out of the variables while they run.
    """
    if backend() != "jax":
        yield
        return
    before = [(variable, ops.convert_to_numpy(variable)) for variable in model.variables]
    try:
        yield
    except BaseException:
        for variable, value in before:
            # On the devices of its distribution.
            variable._direct_assign(ops.convert_to_tensor(value, variable.dtype))
        raise


@contextlib.contextmanager
def predicting_with(model: Any, step: Any) -> Iterator[None]:
    """Let `predict` run another step.

    Keras has no argument for it, and reads the attribute `predict_step` of the model. The
    caller retraces the model.
    """
    if backend() == "torch":
        import torch

        # Its compilation would take longer than one run over the data.
        step = torch.compiler.disable(step)
    before = model.__dict__.get("predict_step")
    model.predict_step = step
    try:
        yield
    finally:
        del model.predict_step
        if before is not None:
            model.predict_step = before
