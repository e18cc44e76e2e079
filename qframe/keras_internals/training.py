"""Models that train or trace, and what they keep of it."""

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
    """The variable that counts an optimizer's calls, by which Keras asks schedules.

    Public `iterations` counts fewer where gradients are accumulated.
    """
    return optimizer._iterations


def trained_by(optimizer: Any) -> list[Any]:
    """The variables of a model that an optimizer was built with, in order."""
    trained: list[Any] = optimizer._trainable_variables
    return trained


def models_alive() -> list[Any]:
    """Every model there is, wherever it is held."""
    alive = [reference() for reference in _MODELS.valuerefs()]
    # Those whose construction failed may be there still, without layers.
    return [model for model in alive if getattr(model, "_layers", None)]


def tracing_models() -> list[Any]:
    """Those that keep a function of a traced call."""
    return [model for model in models_alive() if traced_functions(model)]


def _models() -> weakref.WeakValueDictionary[int, Any]:
    """All models alive, by their addresses: those there are now, and each one from now on.

    A layer does not know what models it is in, and Keras has no list of models. To look
    for them among all objects whenever a layer changes takes longer than the change.
    """
    models: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    init = Trainer.__init__

    @functools.wraps(init)
    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        models[id(self)] = self

    Trainer.__init__ = noted
    classes, found = {Model}, [Model]
    while found:
        found = [each for cls in found for each in cls.__subclasses__()]
        classes.update(found)
    # By the class alone: `isinstance` would wake what is lazy.
    for each in gc.get_objects():
        if type(each) in classes:
            models[id(each)] = each
    return models


_MODELS = _models()


def traced_functions(model: Any) -> dict[str, Any]:
    """What a model keeps of its traced calls: `x_function`, which `make_x_function` makes.

    Beside those of Keras's trainers it is `generate_function` in KerasHub.
    """
    cls: Any = type(model)
    held = {name: getattr(model, name, None) for name in _names_of_functions(cls)}
    return {name: function for name, function in held.items() if function is not None}


@functools.cache
def _names_of_functions(cls: Any) -> tuple[str, ...]:
    makers = [n for n in dir(cls) if n.startswith("make_") and n.endswith("_function")]
    return tuple(name.removeprefix("make_") for name in makers)


def make_function(model: Any, name: str) -> None:
    """Make one of these functions anew, for it to trace what is there now.

    A `fit` that is running calls it at its next step.
    """
    setattr(model, name, None)
    key = name.replace("_function", "_step")
    before = model.__dict__.get(key)
    if backend() == "jax" and hasattr(model, key):
        # JAX keeps by function what it compiled, as long as there is such a function.
        model.__dict__[key] = functools.partial(getattr(model, key))
    try:
        getattr(type(model), f"make_{name}")(model)
    finally:
        model.__dict__.pop(key, None)
        if before is not None:
            model.__dict__[key] = before


def take_state_back(model: Any) -> None:
    """Give the variables of a model their values, which JAX has while it trains."""
    if not getattr(model, "_jax_state_synced", True):
        # The next step takes them again.
        model.jax_state_sync()


@contextlib.contextmanager
def kept_on_jax(model: Any) -> Iterator[None]:
    """Give the variables their values back where a step of Keras's on JAX fails.

    Its trainers take them out of the variables while they run.
    """
    if backend() != "jax":
        yield
        return
    before = [(variable, ops.convert_to_numpy(variable)) for variable in model.variables]
    try:
        yield
    except BaseException:
        for variable, value in before:
            # Where its distribution has it.
            variable._direct_assign(ops.convert_to_tensor(value, variable.dtype))
        raise


@contextlib.contextmanager
def predicting_with(model: Any, step: Any) -> Iterator[None]:
    """Let `predict` take another step.

    Keras makes its predict function of the model's own attribute `predict_step`; there is
    no argument for it. The caller lets the model trace anew.
    """
    if backend() == "torch":
        import torch

        # To compile it takes longer than to run over data once.
        step = torch.compiler.disable(step)
    before = model.__dict__.get("predict_step")
    model.predict_step = step
    try:
        yield
    finally:
        del model.predict_step
        if before is not None:
            model.predict_step = before
