"""Shapes of tensors, from the records of Keras."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import tree

from qframe import keras_internals
from qframe.models.calls import Call, Shape, TensorSpec, tensors


def any_batch(shape: Sequence[int | None]) -> Shape:
    """Return a shape with an unknown size of the batch."""
    return (None, *shape[1:]) if shape else ()


def built_call(layer: Any) -> Call:
    """Return a call with the shapes that a layer was built with."""
    shapes = keras_internals.build_shapes(layer) or {}
    inputs = getattr(layer, "inputs", None) if isinstance(layer, keras.Model) else None
    if inputs and not any(shapes.values()):
        # A functional model has no build shapes, and its subclass may not call the graph.
        shapes = {"inputs": [tuple(tensor.shape) for tensor in inputs]}
    if not shapes:
        return Call()
    arguments = _by_argument(lambda shape: TensorSpec(any_batch(shape)), shapes)
    return Call(arguments, returned_shapes(layer, *shapes.values()))


def built_tensors(layer: Any, dtype: str) -> tuple[list[Any], dict[str, Any]] | None:
    """Return symbolic positional and keyword arguments to call a layer with.

    Return None where it was not built with shapes only.
    """
    shapes = keras_internals.build_shapes(layer)
    if not shapes:
        return None
    try:
        arguments = _by_argument(lambda shape: keras.KerasTensor(shape, dtype), shapes)
    except TypeError:  # an argument that is not a shape
        return None
    # The name of a single input may differ between `build` and `call`.
    return ([*arguments.values()], {}) if len(arguments) == 1 else ([], arguments)


def returned_shapes(layer: Any, *inputs: Any) -> tuple[Shape, ...]:
    """Return the shapes of the outputs of a layer for the shapes of its inputs."""
    try:
        shapes = layer.compute_output_shape(*(_map_shapes(tuple, i) for i in inputs))
    except Exception:  # code of users
        return (None,)
    outputs: list[Shape] = []
    _map_shapes(lambda shape: outputs.append(any_batch(shape)), shapes)
    return tuple(outputs) or (None,)


def node_arguments(node: Any, specs: Mapping[int, TensorSpec]) -> dict[str, Any]:
    """Return the arguments of a node by their names in the call of its layer."""

    def spec_of(leaf: Any) -> Any:
        if isinstance(leaf, keras.KerasTensor):
            return specs.get(id(leaf), TensorSpec())
        return leaf

    arguments = (node.arguments.args, node.arguments.kwargs)
    args, kwargs = tree.map_structure(spec_of, arguments)
    try:
        bound = inspect.signature(node.operation.call).bind(*args, **kwargs)
    except TypeError:
        return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    bound.apply_defaults()
    return dict(bound.arguments)


def node_outputs(node: Any, specs: Mapping[int, TensorSpec]) -> tuple[Shape, ...]:
    """Return the shapes of the outputs of a node, computed where its inputs changed."""
    inputs = node.arguments.keras_tensors
    shapes = [specs.get(id(tensor), TensorSpec()).shape for tensor in inputs]
    recorded = [tuple(tensor.shape) for tensor in inputs]
    outputs = tuple(tuple(tensor.shape) for tensor in node.outputs)
    if shapes == recorded:
        return outputs
    if shapes == [any_batch(shape) for shape in recorded]:
        return tuple(any_batch(shape) for shape in outputs)
    unknown: tuple[Shape, ...] = (None,) * len(node.outputs)
    if None in shapes:
        return unknown
    replacements = {
        id(tensor): keras.KerasTensor(shape, dtype=tensor.dtype)
        for tensor, shape in zip(inputs, shapes, strict=True)
    }
    args, kwargs = tree.map_structure(
        lambda leaf: replacements.get(id(leaf), leaf),
        (node.arguments.args, node.arguments.kwargs),
    )
    try:
        computed = node.operation.compute_output_spec(*args, **kwargs)
    except Exception:  # code of users
        return unknown
    outputs = tuple(tuple(tensor.shape) for tensor in tree.flatten(computed))
    return outputs if len(outputs) == len(unknown) else unknown


def graph_inputs(function: Any, call: Call) -> list[TensorSpec]:
    """Return the arguments of a call of a model, in the order of its inputs."""
    structure = next(iter(call.arguments.values()), None)
    names = [tensor.name for tensor in function.inputs]
    if isinstance(structure, dict) and set(names) <= set(structure):
        structure = [structure[name] for name in names]
    arguments = tensors(structure)
    if len(arguments) != len(names):
        return [TensorSpec()] * len(names)
    # Keras adds or drops an axis of one element where the ranks differ.
    return [
        TensorSpec(tuple(declared.shape), tensor.bits)
        if tensor.shape is not None and len(tensor.shape) != len(declared.shape)
        else tensor
        for declared, tensor in zip(function.inputs, arguments, strict=True)
    ]


def _by_argument(change: Callable[[Any], Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Apply `change` to each build shape of a layer, by the argument of its call."""
    return {
        name.removesuffix("_shape"): _map_shapes(change, shape)
        for name, shape in shapes.items()
    }


def _map_shapes(change: Callable[[Any], Any], structure: Any) -> Any:
    """Apply `change` to each shape of a structure; a loaded model has lists for tuples."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {key: _map_shapes(change, value) for key, value in structure.items()}
    if all(dim is None or isinstance(dim, int) for dim in structure):
        return change(tuple(structure))
    return [_map_shapes(change, value) for value in structure]
