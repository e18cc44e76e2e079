"""Batch normalizations that can be folded into the layer before them, and reasons."""

from __future__ import annotations

from typing import Any

import attrs

from qframe import keras_internals
from qframe.errors import NotBuiltError, QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.attachment import float_class_of
from qframe.layers.roles import Role, role_of_activation
from qframe.layers.table import TABLE, nearest
from qframe.layers.tree import Site
from qframe.passes.calls import Calls
from qframe.passes.folded_weights import Folded, folded
from qframe.passes.proofs import (
    check_callers,
    check_function,
    check_weights,
    is_product,
)


@attrs.frozen(eq=False)
class Pair:
    """A batch normalization, the layer of products before it, and their new weights."""

    norm: Any
    product: Any
    folded: Folded

    @property
    def adds_bias(self) -> bool:
        """Return whether the layer of products has no bias yet."""
        return self.product.bias is None


def pair_of(site: Site, calls: Calls) -> Pair:
    """Find the layer that a batch normalization can be folded into.

    Raises:
        NotBuiltError: the batch normalization is not built.
        QFrameError: there is none; the text is the reason.
    """
    norm = site.layer
    if not norm.built:
        raise NotBuiltError(
            f"{site.path!r} is not built and has no statistics. Call the model once: "
            "model(inputs)."
        )
    check_function(norm, "fold")
    check_callers(norm, calls)
    if norm.activity_regularizer is not None:
        raise QFrameError("it has an activity_regularizer, which needs its output")
    nodes = calls.of(norm)
    if not nodes:
        raise QFrameError("no call of the model reaches it")
    makers = [_maker(node, calls) for node in nodes]
    product = makers[0]
    if any(maker is not product for maker in makers):
        raise QFrameError("it is shared: it reads the outputs of several layers")
    _check_product(product, norm, calls)
    rank = len(nodes[0].arguments.keras_tensors[0].shape)
    return Pair(norm, product, folded(product, norm, rank))


def _maker(node: Any, calls: Calls) -> Any:
    """The layer whose output a call of a batch normalization reads."""
    if id(node.operation) in calls.always_training:
        raise QFrameError("it is called with training=True, so it uses batch statistics")
    arguments = node.arguments.args
    if len(arguments) != 1 or keras_internals.own_arguments(node).keys() - {"training"}:
        raise QFrameError("it is called with other arguments than one tensor")
    maker = calls.maker(arguments[0])
    if maker is None:
        raise QFrameError("it reads an input of its model")
    product = maker.operation
    is_known = nearest(TABLE, type(product)) is not None
    if is_known and (override := override_of(product)) is not None:
        raise QFrameError(str(override))
    if not is_product(product):
        kind = float_class_of(product).__name__
        raise QFrameError(
            f"it reads {product.name!r} ({kind}), which is not a layer of products"
        )
    return product


def _check_product(product: Any, norm: Any, calls: Calls) -> None:
    """Raise where a layer of products computes something else, or for others too."""
    name = product.name
    check_function(product, "fold")
    check_callers(product, calls)
    activation = getattr(product, "activation", None)
    if role_of_activation(activation) is not Role.IDENTITY:
        text = getattr(activation, "__name__", repr(activation))
        raise QFrameError(f"{name!r} has the activation {text} before it")
    check_weights(product, calls)
    if product.compute_dtype != norm.compute_dtype:
        raise QFrameError(
            f"{name!r} computes in {product.compute_dtype}, and it in {norm.compute_dtype}"
        )
    for tensor in (tensor for node in calls.of(product) for tensor in node.outputs):
        model = calls.returned_by(tensor)
        if model is not None:
            raise QFrameError(f"the output of {name!r} is an output of {model!r} too")
        readers = calls.readers(tensor)
        other = next((n.operation for n in readers if n.operation is not norm), None)
        if other is not None:
            raise QFrameError(f"{other.name!r} reads the output of {name!r} too")
        if not readers:
            raise QFrameError(f"{name!r} is shared: it is also called without it")
    if product.bias is None and not keras_internals.is_of_keras(float_class_of(product)):
        raise QFrameError(
            f"{name!r} has no bias, and its class {type(product).__name__} is not of "
            "Keras and may not take one. Give it a bias"
        )
