"""Layers and operators that pass a positive scale of each channel to their output.

They are positively homogeneous in each channel: f(s x) = s f(x) for each s > 0. So a scale
can be taken out of what is before them, and put into what is behind them.
"""

from __future__ import annotations

from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.attachment import float_class_of
from qframe.layers.table import TABLE, nearest
from qframe.passes.equalization.followed_code import is_link
from qframe.passes.equalization.operators import PASSED, SOURCE, reshaped
from qframe.passes.equalization.places import Place
from qframe.passes.proofs import check_function
from qframe.passes.weights import channel_axis

_ACTIVATIONS = (None, *(getattr(keras.activations, n) for n in ("linear", "relu")))
# By the lowering of a layer in the table, and by the class of an operator.
_EACH_NUMBER = {
    *("identity", "activation", "relu", "leaky_relu", "prelu"),
    *("Relu", "ReLU", "LeakyRelu", "Copy", "StopGradient"),
    *("Absolute", "Cast", "Negative", "ZerosLike"),
}
_POSITIONS = {"average_pooling", "cropping", "max_pooling", "up_sampling", "zero_padding"}
_GLOBAL = {"global_average", "global_maximum"}
_MERGES = {
    *("add", "average", "maximum", "minimum", "subtract"),
    *("Add", "Maximum", "Minimum", "Subtract"),
}
_MULTIPLY = {"multiply", "Multiply"}
# All its tensors are the same one.
_LINK = "link"


def check_activation(function: Any, owner: str) -> None:
    """Raise unless a scale passes the activation function of a layer."""
    if function in _ACTIVATIONS or function is keras.activations.leaky_relu:
        return
    text = getattr(function, "__name__", repr(function))
    raise QFrameError(f"no scale passes the activation {text} of {owner!r}{_cure(text)}")


def _cure(text: str) -> str:
    if text != "relu6":
        return ""
    return ", which ends at 6: replace it with relu, and train the model with it"


def moved(node: Any, tensor: Any, place: Place) -> Place:
    """The channels in the output of a call that reads a tensor.

    Raises:
        QFrameError: a scale does not pass; the text is the reason.
    """
    operation, kind = node.operation, _kind(node.operation)
    tensors, output = _tensors(node), node.outputs[0]
    rank = len(tensor.shape)
    if kind == _LINK:
        return place
    if kind in _EACH_NUMBER:
        if "float" not in str(output.dtype):
            raise QFrameError(f"{operation.name!r} makes {output.dtype}")
        return place
    if kind in PASSED:
        return PASSED[kind](node, tensor, place)
    if kind in _POSITIONS | _GLOBAL:
        if place.axes != (channel_axis(operation, rank),):
            raise QFrameError(f"{operation.name!r} mixes the channels")
        return Place((1,), place.channels) if len(output.shape) == 2 else place
    if kind == "permute":
        order = [0, *operation.dims]
        return Place.of([order.index(axis) for axis in place.axes], place.channels)
    if kind == "reshape":
        is_flatten = isinstance(operation, keras.layers.Flatten)
        swapped = is_flatten and operation.data_format == "channels_first"
        return reshaped(node, tensor, place, swapped)  # as Keras does before it flattens
    if kind in _MERGES | _MULTIPLY:
        constants = len(tensors) == 1 and kind not in _MULTIPLY
        # What a scaled tensor is multiplied with may have one number for all channels.
        equal = [tensor] if kind in _MULTIPLY else tensors
        shapes = [tuple(each.shape) for each in (*equal, output)]
        if constants or len({*map(len, shapes)}) > 1 or not place.fits(shapes):
            raise QFrameError(
                f"no scale passes {operation.name!r}, which "
                + (
                    "takes a constant too"
                    if constants
                    else "repeats the channels of a tensor"
                )
            )
        return place
    raise QFrameError(_blocked(operation))


def others_of(node: Any, tensor: Any) -> list[Any]:
    """The other tensors of a call, which a scale must reach where it reaches this one."""
    kind = _kind(node.operation)
    if kind not in _MERGES | {_LINK, "Where"}:
        return []
    tensors = _tensors(node)
    if kind == "Where":
        tensors = [t for t in tensors if t is not node.arguments.args[0]]
    return [each for each in tensors if each is not tensor]


def factors_of(node: Any) -> list[Any]:
    """The tensors that a call multiplies; of these a scale may reach exactly one."""
    return _tensors(node) if _kind(node.operation) in _MULTIPLY else []


def origin(node: Any, place: Place) -> Place:
    """The channels in what a call reads, from those in its output.

    Raises:
        QFrameError: they are not known, or a scale does not pass; the text is the reason.
    """
    kind = _kind(node.operation)
    tensor, output = _tensors(node)[0], node.outputs[0]
    known = kind in _EACH_NUMBER | _POSITIONS | _GLOBAL | _MERGES | {_LINK}
    if not known or len(tensor.shape) != len(output.shape):
        raise QFrameError(_blocked(node.operation))
    return moved(node, tensor, place)


def source_of(node: Any) -> Any:
    """The tensor that a call reads whose scale its output has, where one passes.

    Raises:
        QFrameError: none passes; the text is the reason.
    """
    kind = _kind(node.operation)
    if not kind:
        raise QFrameError(_blocked(node.operation))
    arguments, tensors = node.arguments.args, _tensors(node)
    source = arguments[SOURCE[kind]] if kind in SOURCE else tensors[0]
    return source if isinstance(source, keras.KerasTensor) else tensors[-1]


def reads_place(node: Any, has_place: Any) -> bool:
    """Return whether a call reads a tensor that a function says is placed."""
    return any(map(has_place, _tensors(node)))


def _blocked(operation: Any) -> str:
    known = nearest(TABLE, type(operation)) is not None
    override = override_of(operation) if known else None
    if override is not None:
        return str(override)
    kind = float_class_of(operation).__name__
    return f"no scale passes {operation.name!r} ({kind})"


def _tensors(node: Any) -> list[Any]:
    """The tensors that a call reads, without masks."""
    kwargs = {k: v for k, v in node.arguments.kwargs.items() if k != "mask"}
    flat = keras.tree.flatten((node.arguments.args, kwargs))
    return [each for each in flat if isinstance(each, keras.KerasTensor)]


def _kind(operation: Any) -> str:
    """How an operation passes a scale; empty for one that may pass none.

    Raises:
        QFrameError: it would, with other arguments; the text is the reason.
    """
    if is_link(operation):
        return _LINK
    if not isinstance(operation, keras.layers.Layer):
        return _kind_of_operator(operation)
    row = nearest(TABLE, type(operation))
    kind = "" if row is None else row.lowering or ""
    kinds = _EACH_NUMBER | _POSITIONS | _GLOBAL | _MERGES | _MULTIPLY
    if kind not in kinds | {"reshape", "permute"}:
        return ""
    check_function(operation, "equalize")
    if kind == "activation":
        check_activation(operation.activation, operation.name)
    if kind == "relu":
        _check_relu(operation)
    return kind


def _kind_of_operator(operator: Any) -> str:
    name = keras_internals.operation_name(operator) or ""
    if name in ("Relu6", "HardSigmoid"):
        raise QFrameError(f"no scale passes {operator.name!r}{_cure(name.lower())}")
    if name == "ReLU":
        _check_relu(operator)
    return name if name in _EACH_NUMBER | _MERGES | _MULTIPLY | {*PASSED} else ""


def _check_relu(relu: Any) -> None:
    if relu.max_value is not None or relu.threshold:
        raise QFrameError(
            f"no scale passes {relu.name!r} with max_value={relu.max_value} and "
            f"threshold={relu.threshold}: replace it with keras.layers.ReLU(), and train "
            "the model with it"
        )
