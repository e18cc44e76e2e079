"""From a Keras model to the graph that exporters write."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import keras

from qframe import keras_internals
from qframe.deployment.graph.graph import Graph
from qframe.deployment.lowering.layers import lowering_of
from qframe.deployment.lowering.operators import add_operation
from qframe.deployment.lowering.refusals import Refusals
from qframe.deployment.lowering.tracing import ExportTarget, Traced, Tracer
from qframe.errors import ArgumentError, DataError, ExportError, NotBuiltError, QFrameError
from qframe.keras_internals.overrides import override_of

__all__ = ["ExportTarget", "lower"]


def lower(model: Any, target: ExportTarget) -> Graph:
    """The graph of a functional or sequential model, as it computes in inference.

    Args:
        model: a built Keras model.
        target: the requirements of the exporter.

    Returns:
        The graph: scales, biases and batch normalization are apart from one another.

    Raises:
        ArgumentError: `model` is not a Keras model.
        NotBuiltError: it has no weights yet.
        ExportError: the call of the model is code; an input has no fixed shape, or too
            many elements; layers are refused, all of which the error names.

    Example:
        >>> import keras, qframe as qf
        >>> from qframe.deployment.lowering import ExportTarget, lower
        >>> layer = qf.layers.QuantDense(2, input_quantizer="ste_sign", name="dense")
        >>> model = keras.Sequential([keras.Input((3,)), layer])
        >>> [node.operation.name for node in lower(model, ExportTarget("mine")).nodes]
        ['quantize', 'dequantize', 'dense', 'affine']
    """
    function = _function_of(model, target)
    tracer, refusals = Tracer(target, lowering_of), Refusals(target.name)
    inputs = []
    for tensor in function.inputs:
        shape = tuple(tensor.shape[1:])
        if None in shape or not shape:
            raise ExportError(
                f"the input {tensor.name!r} has the shape {tuple(tensor.shape)}, and the "
                f"target {target.name!r} needs every size but that of the batch. Build the "
                "model with keras.Input((32, 32, 3)), or whatever the size is."
            )
        try:
            inputs.append(tracer.input(shape))
        except DataError as error:
            raise ExportError(
                f"the target {target.name!r} cannot take the input {tensor.name!r}: {error}"
                ". Build the model with a smaller input."
            ) from error
    outputs = _lower(tracer, refusals, function, inputs, "")
    refusals.check()
    tracer.path = "output"
    return tracer.graph(outputs)


def _function_of(model: Any, target: ExportTarget) -> Any:
    if not isinstance(model, keras.Model):
        raise ArgumentError(
            f"the target {target.name!r} takes a Keras model, found {model!r}."
        )
    if not model.built:
        raise NotBuiltError(
            f"{model.name!r} has no weights yet. Begin it with keras.Input((28, 28, 1)), "
            "or whatever its input is."
        )
    function = keras_internals.graph_of(model)
    if function is None:
        raise ExportError(
            f"the call of {model.name!r} is code, which the target "
            f"{target.name!r} cannot read. Build it from layers, as keras.Sequential or "
            "keras.Model(inputs, outputs); its own layers can be used for that."
        )
    override = override_of(model)
    if override is not None:
        raise ExportError(
            f"the target {target.name!r} cannot take the model {model.name!r}: {override}, "
            "and code is not exported. Build it with keras.Model(inputs, outputs)."
        )
    return function


def _lower(
    tracer: Tracer, refusals: Refusals, function: Any, inputs: list[Traced], prefix: str
) -> list[Traced]:
    """Lower a Keras function, whose layers have paths with a prefix."""
    known = {id(t): tensor for t, tensor in zip(function.inputs, inputs, strict=True)}
    for node in keras_internals.nodes(function):
        if node.is_input:
            continue
        layer, path = node.operation, f"{prefix}{node.operation.name}"
        operands = [known[id(tensor)] for tensor in node.arguments.keras_tensors]
        tracer.begin(path, functools.partial(_arguments, node))
        try:
            if isinstance(layer, keras.layers.Layer):
                outputs = _outputs_of(tracer, refusals, layer, operands, path)
            else:
                outputs = [_operation(tracer, node, operands)]
            for expected, output in zip(node.outputs, outputs, strict=True):
                if not _fits(tuple(expected.shape[1:]), output.shape):
                    raise QFrameError(f"it returns {expected.shape}, not {output.shape}")
        except QFrameError as error:
            refusals.add(path, layer, error)
            shapes = [tuple(tensor.shape[1:]) for tensor in node.outputs]
            if any(None in shape for shape in shapes):
                refusals.check()
            try:
                outputs = [tracer.placeholder(shape) for shape in shapes]
            except DataError:  # more elements than a tensor of a graph can have
                refusals.check()
        known |= {id(t): tensor for t, tensor in zip(node.outputs, outputs, strict=True)}
    return [known[id(tensor)] for tensor in function.outputs]


def _outputs_of(
    tracer: Tracer, refusals: Refusals, layer: Any, inputs: list[Traced], path: str
) -> list[Traced]:
    dtype = getattr(layer, "compute_dtype", "float32")
    if dtype != "float32":
        raise QFrameError(f"it computes in {dtype}, and the target in float32")
    inner = keras_internals.graph_of(layer)
    if inner is None or not _match(inner.inputs, inputs):
        output = lowering_of(layer)(tracer, layer, inputs)
        tracer.name_output(output)
        return [output]
    override = override_of(layer)
    if override is not None:
        raise QFrameError(f"{override}, and code is not exported")
    return _lower(tracer, refusals, inner, inputs, f"{path}/")


def _operation(tracer: Tracer, node: Any, operands: list[Traced]) -> Traced:
    """Lower an operation between layers."""
    op, (output, *others) = node.operation, node.outputs
    if others:
        raise QFrameError(
            f"it returns {len(others) + 1} tensors, and an operation of the target one. "
            "Write slices such as x[..., :3], or a layer for each"
        )
    if output.dtype != "float32":
        raise QFrameError(f"it computes in {output.dtype}, and the target in float32")
    by_id = dict(zip(map(id, node.arguments.keras_tensors), operands, strict=True))
    args, kwargs = keras.tree.map_structure(
        lambda part: by_id.get(id(part), part), (node.arguments.args, node.arguments.kwargs)
    )
    bound = inspect.signature(op.call).bind(*args, **kwargs)
    return add_operation(
        tracer, keras_internals.operation_name(op), op, [*bound.arguments.values()]
    )


def _arguments(node: Any) -> tuple[dict[str, int], dict[str, Any]]:
    """The places of the named inputs of a layer, and the other arguments of its call."""
    call = inspect.signature(node.operation.call)
    bound = call.bind(*node.arguments.args, **node.arguments.kwargs).arguments
    bound |= bound.pop("kwargs", {})
    ids = [id(tensor) for tensor in node.arguments.keras_tensors]
    places: dict[str, int] = {}
    for name, value in bound.items():
        if id(value) in ids:
            places[name] = ids.index(id(value))
            ids[places[name]] = 0  # the same tensor may be another argument as well
    return places, {k: v for k, v in bound.items() if k not in places}


def _fits(expected: tuple[int | None, ...], found: tuple[int, ...]) -> bool:
    """Return whether a shape is one that Keras knows, wholly or in part."""
    pairs = zip(expected, found, strict=False)
    return len(expected) == len(found) and all(a in (None, b) for a, b in pairs)


def _match(inputs: list[Any], tensors: list[Traced]) -> bool:
    return [tuple(t.shape[1:]) for t in inputs] == [tensor.shape for tensor in tensors]
