"""Every use of private Keras, in one place; a contract test runs it on each Keras."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import io
import weakref
from collections.abc import Iterator
from typing import Any

from keras import Model, ops
from keras.config import backend
from keras.src.backend.common.variables import AutocastScope
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell
from keras.src.saving import saving_lib
from keras.src.trainers.trainer import Trainer
from keras.src.utils.naming import auto_name

__all__ = [
    "ConvLSTMCell",
    "all_layers",
    "as_it_is",
    "auto_name",
    "before_arguments",
    "build_shapes",
    "from_bytes",
    "graph_of",
    "in_training",
    "kept_on_jax",
    "latent_value",
    "make_function",
    "models_alive",
    "nodes",
    "own_weights",
    "put_last",
    "reduce",
    "runs_keras",
    "saves_each_layer",
    "steps_of",
    "strategy_of",
    "sublayers",
    "take_state_back",
    "takes_training",
    "to_bytes",
    "traced_functions",
    "tracing_models",
    "trained_by",
    "training_restored",
    "unlocked",
    "untrack",
]


def latent_value(variable: Any) -> Any:
    """The value of a variable (or tensor) in its own dtype, whatever is being called.

    While a layer of a mixed-precision policy is being called, Keras casts each variable
    as it is read. Quantizing after that cast would take the sign of an underflowed zero.
    """
    with AutocastScope(None):
        # TensorFlow's convert_to_tensor returns the tf.Variable, which custom gradients
        # refuse in eager mode; a copy is a real read.
        return ops.copy(variable)


def to_bytes(saveable: Any) -> bytes:
    """The ``.keras`` archive of a layer or model."""
    buffer = io.BytesIO()
    saving_lib._save_model_to_fileobj(saveable, buffer, "h5")
    return buffer.getvalue()


def from_bytes(archive: bytes) -> Any:
    """The inverse of `to_bytes`."""
    return saving_lib._load_model_from_fileobj(
        io.BytesIO(archive), custom_objects=None, compile=True, safe_mode=False
    )


def all_layers(layer: Any) -> list[Any]:
    """A layer and all that are in it, quantizers too."""
    held: list[Any] = layer._flatten_layers()
    return held


def sublayers(layer: Any) -> list[Any]:
    """The layers that a layer holds itself, in the order they were attached."""
    held: list[Any] = layer._flatten_layers(include_self=False, recursive=False)
    return held


def put_last(layer: Any, parts: list[Any]) -> None:
    """Let the variables of these parts of a layer come last, in this order."""
    places = {id(part): place for place, part in enumerate(parts)}
    # As a plain list: the one of Keras would track what it is given once more.
    list.sort(layer._layers, key=lambda part: places.get(id(part), -1))


def own_weights(layer: Any) -> list[Any]:
    """The variables that a layer holds itself to learn them, frozen ones too.

    Keras has no public way that does not go through all that is inside the layer.
    """
    held: list[Any] = layer._trainable_variables
    return held


def steps_of(optimizer: Any) -> Any:
    """The variable that counts an optimizer's calls, by which Keras asks schedules.

    Public `iterations` counts fewer where gradients are accumulated.
    """
    return optimizer._iterations


def trained_by(optimizer: Any) -> list[Any]:
    """The variables of a model that an optimizer was built with, in order."""
    trained: list[Any] = optimizer._trainable_variables
    return trained


def strategy_of(layer: Any) -> Any:
    """The `tf.distribute.Strategy` with a copy of a layer's variables in each replica.

    None where there is none: another backend, or no replicas, or no variables.
    """
    for variable in layer.variables if backend() == "tensorflow" else ():
        strategy = getattr(variable._value, "distribute_strategy", None)
        if strategy is not None:
            return strategy
    return None


def build_shapes(layer: Any) -> dict[str, Any] | None:
    """The shapes that a layer was built with, by argument; None where not recorded."""
    shapes: dict[str, Any] | None = getattr(layer, "_build_shapes_dict", None)
    return shapes


def graph_of(layer: Any) -> Any:
    """The `keras.Function` that a model's call runs; None where its call is code."""
    if not runs_keras(layer):
        return None
    graph = getattr(layer, "_functional", None) or layer
    return graph if hasattr(graph, "_nodes_by_depth") else None


def saves_each_layer(layer: Any) -> bool:
    """Whether what Keras saves of a layer has a config of each layer in it.

    A functional model does, unless its class overrides `get_config` and rebuilds the
    layers from that config. The answer is the same for all models of a class.
    """
    if graph_of(layer) is None:
        return False
    cls = getattr(type(layer), "float_class", type(layer))
    if cls not in _SAVES_EACH_LAYER:
        try:
            parts = cls.get_config(layer).get("layers")
        # A stranger's code can raise anything, Keras does where there is no config.
        except Exception:
            parts = None
        each = isinstance(parts, list) and all(isinstance(p, dict) for p in parts)
        _SAVES_EACH_LAYER[cls] = each
    return _SAVES_EACH_LAYER[cls]


_SAVES_EACH_LAYER: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


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


def nodes(graph: Any) -> Iterator[Any]:
    """The calls within a graph, each after those that it depends on.

    A layer that other models share has more calls than these. A node has `operation`,
    `arguments` (with `args`, `kwargs` and the flat `keras_tensors`), `outputs` and
    `is_input`.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def runs_keras(layer: Any) -> bool:
    """Whether the call of a layer is Keras's own, and not that of a subclass."""
    call = inspect.unwrap(type(layer).call)
    return str(call.__module__).startswith("keras.")


def reduce(saveable: Any) -> tuple[Any, ...]:
    """What ``__reduce__`` of a generated class returns.

    Keras's own pickles a reference to the class, and this one has no importable name.
    """
    return from_bytes, (to_bytes(saveable),)


@contextlib.contextmanager
def unlocked(layer: Any) -> Iterator[None]:
    """Let a built layer take new parts; Keras locks it against them."""
    tracker = layer._tracker
    message, locked = tracker._lock_violation_msg, tracker.locked
    tracker.unlock()
    try:
        yield
    finally:
        if locked:
            tracker.lock(message)


def untrack(layer: Any, part: Any) -> None:
    """Forget a part that is no longer an attribute of a layer."""
    layer._tracker.untrack(part)


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
