"""The grid of the sums of products of a layer, on which integer runtimes add its bias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from keras import ops

from qframe import keras_internals
from qframe.errors import ArgumentError
from qframe.keras_internals import latent_value
from qframe.layers.adapters import adapter_of, slot_attribute
from qframe.layers.roles import Role, role_of, role_of_activation
from qframe.layers.substitution import latent
from qframe.quantizers import Quantizer


@attrs.frozen(eq=False)
class Sums:
    """The grid of sums: a bias plus `shift` is a multiple of `step`.

    Args:
        step: the scale of the input times that of the kernel, for each output channel.
        shift: the other part of the folded bias; 0.0 without batch normalization.
    """

    step: Any
    shift: Any


def sums_of(layer: Any, slot: str) -> Sums | None:
    """The grid for a bias, or for the ``beta`` of batch normalization behind a product.

    Args:
        layer: the layer with the bias, or the batch normalization.
        slot: the name of the slot, ``"bias"`` or ``"beta"``.

    Returns:
        The grid; None where the input or the kernel has none, or one that is not fixed.

    Raises:
        ArgumentError: the calls of a shared layer read different grids.
    """
    if slot == "bias":
        step = _step(layer)
        return None if step is None else Sums(step, 0.0)
    product = _product_before(layer)
    step = None if product is None else _step(product)
    if step is None:
        return None
    factor = ops.rsqrt(latent_value(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        factor = factor * latent_value(layer.gamma)
    before = -latent_value(layer.moving_mean)
    bias = getattr(product, "bias", None)
    if bias is not None:
        before = before + _bias_in_call(product)
    return Sums(ops.abs(factor) * step, before * factor)


def _bias_in_call(product: Any) -> Any:
    """The bias that a layer adds, by its quantizer if that needs no grid of sums."""
    value = latent_value(latent(product, "bias"))
    quantizer = getattr(product, "bias_quantizer", None)
    needs_sums = isinstance(quantizer, Quantizer) and quantizer.traits.sums
    return value if quantizer is None or needs_sums else quantizer(value)


def _step(layer: Any) -> Any:
    """The scale of the input times that of the kernel; None without one of them."""
    source, kernel = source_of(layer), _kernel_scale(layer)
    if source is None or kernel is None:
        return None
    scale = _scale_of(source, ops.zeros((1, 1)))
    return None if scale is None else ops.reshape(scale, ()) * kernel


def _kernel_scale(layer: Any) -> Any:
    """The scale of the kernel by output channel, or a single one."""
    adapter = adapter_of(type(layer))
    kernels = [w for w in adapter.weights if w.channel_axis is not None] if adapter else []
    quantizers = [getattr(layer, slot_attribute(w.prefix), None) for w in kernels]
    if len(kernels) != 1 or not isinstance(quantizers[0], Quantizer):
        return None
    value = latent_value(latent(layer, kernels[0].attribute))
    scale = _scale_of(quantizers[0], value, kernels[0].channel_axis_of(layer))
    bias = getattr(layer, "bias", None)
    if scale is None or (bias is not None and len(bias.shape) != 1):
        return None
    scale = ops.reshape(scale, (-1,))
    if scale.shape[0] == 1:
        return ops.reshape(scale, ())
    return scale if bias is None or tuple(scale.shape) == tuple(bias.shape) else None


def _scale_of(quantizer: Quantizer, value: Any, axis: Any = -1) -> Any:
    """The scale of a quantizer in float32; None without one."""
    axes = {"channel_axis": axis} if quantizer.traits.channelwise else {}
    affine = quantizer.affine(value, **axes)
    if affine is None:
        return None
    return ops.stop_gradient(ops.cast(affine[0], "float32"))


def source_of(layer: Any) -> Quantizer | None:
    """The quantizer whose grid the input of a layer has, by the graphs that call it.

    Raises:
        ArgumentError: its calls read different grids.
    """
    own = getattr(layer, "input_quantizer", None)
    if own is not None:
        return _fixed(own)
    tensors = (node.arguments.keras_tensors[:1] for node in layer._inbound_nodes)
    found = {id(q): q for each in tensors for t in each for q in _quantizers_of(t)}
    if len(found) > 1:
        names = ", ".join(map(repr, found.values()))
        raise ArgumentError(
            f"the calls of {layer.name!r} read the grids of {len(found)} quantizers "
            f"({names}), and its bias has one grid. Give it an input_quantizer, which all "
            "its calls share, or bias_quantizer=None."
        )
    return next(iter(found.values()), None)


def _fixed(quantizer: Any) -> Quantizer | None:
    """The quantizer, if it has one scale for the whole tensor that data do not change."""
    fixed = isinstance(quantizer, Quantizer) and quantizer.traits.elementwise
    return quantizer if fixed else None


def _quantizers_of(tensor: Any) -> Iterator[Quantizer]:
    """The quantizers on whose grid a tensor of a graph is; none if it is not on one."""
    for operation, node in _makers_of(tensor):
        role = role_of(operation)
        quantizer = getattr(operation, "output_quantizer", None)
        if quantizer is None:
            quantizer = _own_grid(operation, role)
        passes = role in (Role.MOVE, Role.IDENTITY)
        if quantizer is None and passes:
            quantizer = getattr(operation, "input_quantizer", None)
        fixed = _fixed(quantizer)
        if fixed is not None:
            yield fixed
        elif quantizer is None and passes:
            yield from _quantizers_of(node.arguments.keras_tensors[0])


def _makers_of(tensor: Any) -> Iterator[tuple[Any, Any]]:
    """The layers or operators that make a tensor, with their calls.

    A tensor in a model within others has one for each call of that model.
    """
    operation, node_index, tensor_index = tensor._keras_history
    graph = keras_internals.graph_of(operation)
    if graph is not None:
        yield from _makers_of(graph.outputs[tensor_index])
    elif keras_internals.is_input(operation):
        for outer in keras_internals.tensors_of_input(tensor):
            yield from _makers_of(outer)
    else:
        yield operation, operation._inbound_nodes[node_index]


def _own_grid(operation: Any, role: Role) -> Any:
    """The quantizer that a layer is, or that is its activation."""
    if isinstance(operation, Quantizer):
        return operation
    activation = getattr(operation, "activation", None)
    is_grid = role_of_activation(activation) is Role.QUANTIZER
    return activation if is_grid and role is not Role.OPAQUE else None


def _product_before(layer: Any) -> Any:
    """The layer whose products a batch normalization reads; None if there are others."""
    tensors = [node.arguments.keras_tensors[0] for node in layer._inbound_nodes]
    found = {id(each): each for tensor in tensors for each in _products_of(tensor)}
    return next(iter(found.values())) if len(found) == 1 else None


def _products_of(tensor: Any) -> Iterator[Any]:
    for operation, node in _makers_of(tensor):
        role = role_of(operation)
        if role is Role.IDENTITY:
            yield from _products_of(node.arguments.keras_tensors[0])
        elif role is Role.PRODUCT:
            linear = role_of_activation(operation.activation) is Role.IDENTITY
            if linear and getattr(operation, "output_quantizer", None) is None:
                yield operation
