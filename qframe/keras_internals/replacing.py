"""Replacement of a layer by another one in place, and a variable added after the build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras.layers import Identity

from qframe.keras_internals.structure import graph_of, unlocked

# What the graphs around a layer refer to, and where it is.
_KEPT = ("_inbound_nodes", "_outbound_nodes", "_parent_path", "_path", "_called")
# Keras wraps these methods for each layer, around the object that it creates.
_WRAPPED = ("build", "quantize")


def become_identity(layer: Any) -> Callable[[], None]:
    """Turn a built layer into a `keras.layers.Identity`; returns a function that undoes it.

    It remains the same object, in all graphs and layers that have it, without variables.
    Its calls in graphs keep their positional arguments only.
    """
    identity = Identity(
        name=layer.name,
        trainable=layer.trainable,
        dtype=layer.dtype_policy.name,
        autocast=layer.autocast,
    )
    if not identity.built:
        identity.build(next(iter(layer._build_shapes_dict.values())))
    state = {key: value for key, value in vars(identity).items() if key not in _WRAPPED}
    state |= {key: vars(layer)[key] for key in _KEPT if key in vars(layer)}
    cls, before = type(layer), dict(vars(layer))

    calls = [(node, node.arguments) for node in layer._inbound_nodes]

    def become(new: Any, attributes: dict[str, Any]) -> None:
        # By the methods of `object` and `dict`, since Keras would track the parts again.
        object.__setattr__(layer, "__class__", new)
        vars(layer).clear()
        vars(layer).update(attributes)

    def undo() -> None:
        become(cls, before)
        for node, arguments in calls:
            node.arguments = arguments

    become(Identity, state)
    for node, arguments in calls:
        # An Identity takes neither `training` nor `mask`, and passes the mask of its input.
        node.arguments = type(arguments)(*arguments.args)
    return undo


def add_bias(layer: Any, shape: Sequence[int], like: Any) -> Any:
    """Add a bias of zeros to a built layer, as Keras adds it in the build of the layer.

    Args:
        layer: a layer whose attribute `bias` is None, with arguments for a bias.
        shape: the shape of the bias.
        like: another variable of the layer, trained if and only if the bias is.
    """
    with unlocked(layer), layer._open_name_scope():
        bias = layer.add_weight(
            name="bias",
            shape=tuple(shape),
            initializer="zeros",
            regularizer=layer.bias_regularizer,
            constraint=layer.bias_constraint,
            dtype=layer.variable_dtype,
            trainable=True,
        )
        layer.bias = bias
    bias.trainable = like.trainable
    return bias


def remove_bias(layer: Any) -> None:
    """Remove the bias of a layer again."""
    with unlocked(layer):
        layer._untrack_variable(layer.bias)
        layer.bias = None


def update_parameters(layer: Any) -> None:
    """Let a layer list its variables for PyTorch again, where Keras has it do so."""
    names = ("_torch_params", "torch_params")  # the second in older versions of Keras
    # The graph of a Sequential lists them too.
    for part in {id(part): part for part in (layer, graph_of(layer))}.values():
        if any(name in getattr(part, "_modules", ()) for name in names):
            part._track_variables()
