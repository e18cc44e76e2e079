"""From a Keras model to the graph of a packed one, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import keras
import numpy as np

from qframe import keras_internals
from qframe.errors import ArgumentError, ExportError, NotBuiltError, QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.quantizers import Quantizer
from qframe_packed.activations import Steps, steps_of
from qframe_packed.graph import Graph, Node
from qframe_packed.operations import Affine, Operation
from qframe_packed.values import Value


@attrs.frozen
class Tensor:
    """A tensor of the graph under construction.

    Args:
        index: of it in the graph.
        value: what is known of it there.
        scale: the model's numbers are so many times those of the graph; 1.0 for floats.
    """

    index: int
    value: Value
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.value.shape


class Tracer:
    """Puts operations into a graph, in the name of the layer at hand.

    Args:
        floats: the dtype in which kernels that are not quantized are stored.
    """

    def __init__(self, floats: str) -> None:
        self.floats = floats
        self.path = ""
        self._inputs: list[tuple[int, ...]] = []
        self._nodes: list[Node] = []
        self._steps: dict[Any, tuple[Any, Steps]] = {}

    def given(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor that is given to the model; all of them come before any operation."""
        self._inputs.append(shape)
        return Tensor(len(self._inputs) - 1, Value(shape))

    def add(self, operation: Operation, *tensors: Tensor, scale: float = 1.0) -> Tensor:
        """What an operation returns for the numbers of the graph, as they are there."""
        value = operation.infer(*(tensor.value for tensor in tensors))
        indices = tuple(tensor.index for tensor in tensors)
        self._nodes.append(Node(operation, indices, self.path))
        return Tensor(len(self._inputs) + len(self._nodes) - 1, value, scale)

    def real(self, tensor: Tensor) -> Tensor:
        """The tensor as floats, without a scale."""
        if tensor.value.span is None:
            return tensor
        scale = None if tensor.scale == 1 else np.float32(tensor.scale)
        return self.add(Affine(scale=None if scale is None else np.asarray(scale)), tensor)

    def quantized(self, quantizer: Any, tensor: Tensor) -> Tensor:
        """What a quantizer of activations makes of a tensor."""
        if isinstance(quantizer, Quantizer) and quantizer.traits.tag:
            return tensor
        steps = self._steps_of(quantizer)
        return self.add(steps.operation, self.real(tensor), scale=steps.scale)

    def _steps_of(self, quantizer: Any) -> Steps:
        # Without state they follow from the parameters; the object is kept for its id.
        key: Any = id(quantizer)
        if isinstance(quantizer, Quantizer) and not quantizer.weights:
            key = type(quantizer), repr(quantizer.parameters)
        if key not in self._steps:
            self._steps[key] = quantizer, steps_of(quantizer)
        return self._steps[key][1]

    def graph(self, outputs: list[Tensor]) -> Graph:
        """The graph that returns these tensors, as floats."""
        real = [self.real(tensor).index for tensor in outputs]
        return Graph(tuple(self._inputs), tuple(self._nodes), tuple(real))


# From a layer and its inputs to what it returns.
Lowering = Callable[[Tracer, Any, list[Tensor]], Tensor]


def traced(model: Any, lowering_of: Callable[[Any], Lowering], floats: str) -> Graph:
    """The graph of a functional or sequential model, as it computes in inference.

    Raises:
        ArgumentError: `model` is no Keras model.
        NotBuiltError: it has no weights yet.
        ExportError: the call of the model is code; an input has no fixed shape; a layer is
            refused.
    """
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"the target 'packed' takes a Keras model, found {model!r}.")
    if not model.built:
        raise NotBuiltError(
            f"{model.name!r} has no weights yet. Begin it with keras.Input((28, 28, 1)), "
            "or whatever its input is."
        )
    function = keras_internals.graph_of(model)
    if function is None:
        raise ExportError(
            f"the call of {model.name!r} is code, which the target "
            "'packed' cannot read. Build it from layers, as keras.Sequential or "
            "keras.Model(inputs, outputs); its own layers can be used for that."
        )
    override = override_of(model)
    if override is not None:
        raise ExportError(
            f"the target 'packed' cannot take the model {model.name!r}: {override}, and "
            "code is not exported. Build it with keras.Model(inputs, outputs)."
        )
    tracer = Tracer(floats)
    inputs = []
    for tensor in function.inputs:
        shape = tuple(tensor.shape[1:])
        if None in shape or not shape:
            raise ExportError(
                f"the input {tensor.name!r} has the shape {tuple(tensor.shape)}, and the "
                "target 'packed' needs every size but that of the batch. Build the model "
                "with keras.Input((32, 32, 3)), or whatever the size is."
            )
        inputs.append(tracer.given(shape))
    outputs = _graph(tracer, function, inputs, "", lowering_of)
    tracer.path = "output"
    return tracer.graph(outputs)


def _graph(
    tracer: Tracer,
    function: Any,
    inputs: list[Tensor],
    prefix: str,
    lowering_of: Callable[[Any], Lowering],
) -> list[Tensor]:
    found = {id(t): given for t, given in zip(function.inputs, inputs, strict=True)}
    nodes = [node for node in keras_internals.nodes(function) if not node.is_input]
    for node in nodes:
        dtype = getattr(node.operation, "compute_dtype", "float32")
        if dtype != "float32":
            reason = f"it computes in {dtype}, and the runtime in float32"
            raise _refused(f"{prefix}{node.operation.name}", node.operation, reason)
    for node in nodes:
        layer = node.operation
        given = [found[id(tensor)] for tensor in node.arguments.keras_tensors]
        path = f"{prefix}{layer.name}"
        inner = keras_internals.graph_of(layer)
        tracer.path = path
        if inner is not None and _match(inner.inputs, given):
            override = override_of(layer)
            if override is not None:
                raise _refused(path, layer, f"{override}, and code is not exported")
            returned = _graph(tracer, inner, given, f"{path}/", lowering_of)
        else:
            returned = [_lowered(tracer, layer, path, given, lowering_of)]
        for tensor, value in zip(node.outputs, returned, strict=True):
            if tuple(tensor.shape[1:]) != value.shape:
                raise _refused(path, layer, f"it returns {tensor.shape}, not {value.shape}")
            found[id(tensor)] = value
    return [found[id(tensor)] for tensor in function.outputs]


def _match(inputs: list[Any], given: list[Tensor]) -> bool:
    return [tuple(t.shape[1:]) for t in inputs] == [tensor.shape for tensor in given]


def _lowered(
    tracer: Tracer,
    layer: Any,
    path: str,
    given: list[Tensor],
    lowering_of: Callable[[Any], Lowering],
) -> Tensor:
    try:
        return lowering_of(layer)(tracer, layer, given)
    except QFrameError as error:
        raise _refused(path, layer, str(error)) from error


def _refused(path: str, layer: Any, reason: str) -> ExportError:
    kind = "layer" if isinstance(layer, keras.layers.Layer) else "operation"
    return ExportError(
        f"the target 'packed' cannot take the {kind} {path!r} ({type(layer).__name__}): "
        f"{reason.rstrip('.')}. Nothing was written."
    )
