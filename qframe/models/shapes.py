"""Shapes of tensors, from what Keras recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import tree

from qframe import keras_internals
from qframe.models.calls import Call, Shape, Tensor, tensors


def any_batch(shape: Sequence[int | None]) -> Shape:
    """The shape without the size of the batch that a layer happened to be built on."""
    return (None, *shape[1:]) if shape else ()


def built_call(layer: Any) -> Call:
    """A call with the shapes that a layer was built with."""
    shapes = keras_internals.build_shapes(layer) or {}
    inputs = getattr(layer, "inputs", None) if isinstance(layer, keras.Model) else None
    if inputs and not any(shapes.values()):
        # A functional model is built with its graph, and a subclass may not call that.
        shapes = {"inputs": [tuple(tensor.shape) for tensor in inputs]}
    if not shapes:
        return Call()
    arguments = _by_argument(lambda shape: Tensor(any_batch(shape)), shapes)
    return Call(arguments, returned_shapes(layer, *shapes.values()))


def built_tensors(layer: Any, dtype: str) -> tuple[list[Any], dict[str, Any]] | None:
    """Tensors without numbers to call a layer with, by place and by name.

    None where it was not built with shapes alone.
    """
    shapes = keras_internals.build_shapes(layer)
    if not shapes:
        return None
    try:
        given = _by_argument(lambda shape: keras.KerasTensor(shape, dtype), shapes)
    except TypeError:  # an argument that is no shape
        return None
    # A layer of one input may call it as it likes, in `build` too.
    return ([*given.values()], {}) if len(given) == 1 else ([], given)


def returned_shapes(layer: Any, *given: Any) -> tuple[Shape, ...]:
    """What a layer returns for inputs of these shapes."""
    try:
        shapes = layer.compute_output_shape(*(_map_shapes(tuple, g) for g in given))
    except Exception:  # anybody's code
        return (None,)
    found: list[Shape] = []
    _map_shapes(lambda shape: found.append(any_batch(shape)), shapes)
    return tuple(found) or (None,)


def node_arguments(node: Any, found: Mapping[int, Tensor]) -> dict[str, Any]:
    """The arguments of a node by the names that the call of its layer gives them."""

    def fill(leaf: Any) -> Any:
        if isinstance(leaf, keras.KerasTensor):
            return found.get(id(leaf), Tensor())
        return leaf

    given = (node.arguments.args, node.arguments.kwargs)
    args, kwargs = tree.map_structure(fill, given)
    try:
        bound = inspect.signature(node.operation.call).bind(*args, **kwargs)
    except TypeError:
        return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    bound.apply_defaults()
    return dict(bound.arguments)


def node_outputs(node: Any, found: Mapping[int, Tensor]) -> tuple[Shape, ...]:
    """What a node returns: as recorded, or computed where its inputs are others."""
    inputs = node.arguments.keras_tensors
    given = [found.get(id(tensor), Tensor()).shape for tensor in inputs]
    recorded = [tuple(tensor.shape) for tensor in inputs]
    outputs = tuple(tuple(tensor.shape) for tensor in node.outputs)
    if given == recorded:
        return outputs
    if given == [any_batch(shape) for shape in recorded]:
        return tuple(any_batch(shape) for shape in outputs)
    unknown: tuple[Shape, ...] = (None,) * len(node.outputs)
    if None in given:
        return unknown
    other = {
        id(tensor): keras.KerasTensor(shape, dtype=tensor.dtype)
        for tensor, shape in zip(inputs, given, strict=True)
    }
    args, kwargs = tree.map_structure(
        lambda leaf: other.get(id(leaf), leaf),
        (node.arguments.args, node.arguments.kwargs),
    )
    try:
        computed = node.operation.compute_output_spec(*args, **kwargs)
    except Exception:  # anybody's code
        return unknown
    shapes = tuple(tuple(tensor.shape) for tensor in tree.flatten(computed))
    return shapes if len(shapes) == len(unknown) else unknown


def graph_inputs(function: Any, call: Call) -> list[Tensor]:
    """The tensors that a call gives to a model, in the order of the model's inputs."""
    structure = next(iter(call.arguments.values()), None)
    names = [tensor.name for tensor in function.inputs]
    if isinstance(structure, dict) and set(names) <= set(structure):
        structure = [structure[name] for name in names]
    given = tensors(structure)
    if len(given) != len(names):
        return [Tensor()] * len(names)
    # Keras adds or drops an axis of one element where the ranks differ.
    return [
        Tensor(tuple(own.shape), tensor.bits)
        if tensor.shape is not None and len(tensor.shape) != len(own.shape)
        else tensor
        for own, tensor in zip(function.inputs, given, strict=True)
    ]


def _by_argument(change: Callable[[Any], Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """`change` each shape that a layer was built with, by the argument of its call."""
    return {
        name.removesuffix("_shape"): _map_shapes(change, shape)
        for name, shape in shapes.items()
    }


def _map_shapes(change: Callable[[Any], Any], structure: Any) -> Any:
    """`change` each shape of a structure; a loaded model has lists for tuples."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {key: _map_shapes(change, value) for key, value in structure.items()}
    if all(dim is None or isinstance(dim, int) for dim in structure):
        return change(tuple(structure))
    return [_map_shapes(change, value) for value in structure]
