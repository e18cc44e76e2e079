"""A model run call by call, in float and quantized, while its layers change."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from qframe import context, keras_internals
from qframe.layers.flow import Step, flow_of
from qframe.layers.quantized import Quantized
from qframe.layers.slots import running_slots, slots_of, values_in_call, weight_slots
from qframe.layers.tree import sites
from qframe.observation.observer import Observer

Array = NDArray[Any]

# The inputs of the calls of a layer in a batch: in float, and quantized.
Inputs = tuple[list[Array], list[Array]]


class Replay:
    """The calls of a model over batches, up to one layer after the other.

    Each call runs once in float and once quantized. What later calls read is kept, so that
    a layer may change once its inputs are known, and the next layers see that. The code of
    a layer that calls others runs again for each of them, as does a model without a graph.

    Args:
        model: a built model.
        batches: the inputs of each batch as `keras_internals.batches` gives them.
    """

    def __init__(self, model: Any, batches: Iterable[Any]) -> None:
        layers = [s.layer for s in sites(model) if isinstance(s.layer, Quantized)]
        self._idle = {id(x): frozenset(slot.name for slot in slots_of(x)) for x in layers}
        flow = flow_of(model)
        if flow is None:
            self._steps: Sequence[Any] = [_Whole(model)]
            starts = [{0: x} for x in batches]
        else:
            self._steps = flow.steps
            graph = keras_internals.graph_of(model)
            flat = [keras_internals.flat_inputs(graph, x) for x in batches]
            tensors = ([ops.convert_to_tensor(x) for x in each] for each in flat)
            starts = [dict(zip(flow.inputs, each, strict=True)) for each in tensors]
        self._last_use = {i: n for n, step in enumerate(self._steps) for i in step.outputs}
        self._last_use |= {i: n for n, step in enumerate(self._steps) for i in step.inputs}
        # Of each batch, the tensors that later calls read: in float, and quantized.
        self._memory = [(start, dict(start)) for start in starts]
        self._values: dict[tuple[int, str], tuple[Any, Any]] = {}
        self._counts: Mapping[int, int] = collections.Counter()
        # The layer whose inputs in memory are quantized already.
        self._entered: dict[int, frozenset[str]] = {}
        self._done = 0
        #: The number of examples in each batch.
        self.sizes = [len(tree.flatten(start)[0]) for start in starts]

    def places(self, layers: Sequence[Any]) -> list[tuple[int, list[Any]]]:
        """The calls of layers, or of what has them inside, each layer in its first one.

        A call of an embedding counts where it multiplies.
        """
        left = {id(layer): layer for layer in layers}
        found = []
        for place, step in enumerate(self._steps):
            parts = map(id, _multiplying(step))
            inside = [left.pop(part) for part in parts if part in left]
            if inside:
                found.append((place, inside))
        return found

    def advance(self, place: int) -> None:
        """Run all calls before a place, which later ones follow."""
        start, self._done = self._done, place
        values = self._quantized_weights(self._steps[start:place])
        for pair in self._memory:
            for tensors, scope in zip(pair, self._scopes(values), strict=True):
                with scope:
                    self._run(start, place, tensors)
        self._entered = {}

    def called(self, place: int, layers: Sequence[Any]) -> list[Any]:
        """The layers that a call reaches, in order."""
        step = self._steps[place]
        if [step.operation] == layers:
            return list(layers)
        observer = _Order(layers)
        with _observed(step.operation, observer):
            self._run(place, place + 1, dict(self._memory[0][0]))
        self._counts = collections.Counter(map(id, observer.found))
        return list({id(layer): layer for layer in observer.found}.values())

    def inputs(self, place: int, layer: Any) -> Iterator[Inputs]:
        """The inputs of all calls of a layer, of which the first is at a place.

        Up to the last call, the calls between run with the layers as they are now, and
        later once more.
        """
        calls = [
            n for n, s in enumerate(self._steps) if id(layer) in map(id, _multiplying(s))
        ]
        steps = self._steps[place : calls[-1] + 1]
        if len(steps) == 1 and steps[0].operation is layer:
            yield from self._entering(place, layer)
            return
        values = self._quantized_weights(steps)
        count = self._counts[id(layer)] if len(steps) == 1 else 0
        for pair in self._memory:
            found = []
            for before, scope in zip(pair, self._scopes(values), strict=True):
                observer = _Inputs(layer, count)
                enough = contextlib.suppress(_EnoughError)
                with scope, _observed(layer, observer), enough:
                    self._run(place, calls[-1] + 1, dict(before))
                found.append(observer.found)
            yield found[0], found[1]

    def _entering(self, place: int, layer: Any) -> Iterator[Inputs]:
        """The inputs of the only call of a layer.

        Those that nothing else reads stay quantized in memory: to quantize them again would
        take as long as the layer.
        """
        step = self._steps[place]
        stays = self._is_for_itself(step, place)
        for pair in self._memory:
            found = []
            for tensors, scope in zip(pair, self._scopes({}), strict=True):
                with scope:
                    x = _input(layer, *_arguments(step, tensors))
                found.append([_array(x)])
            if stays:
                pair[1][step.inputs[0]] = x
            yield found[0], found[1]
        if stays:
            self._entered = {id(layer): frozenset({"input"})}

    def _is_for_itself(self, step: Any, place: int) -> bool:
        """Return whether no other call reads the only input of a call."""
        if len(step.inputs) != 1 or self._last_use[step.inputs[0]] > place:
            return False
        # A mask is an attribute of the tensor, which another one would not have.
        return keras_internals.mask_of(self._memory[0][1][step.inputs[0]]) is None

    def _quantized_weights(self, steps: Sequence[Any]) -> dict[tuple[int, str], Any]:
        """The quantized weights in calls, so that they are not computed for each batch.

        Those of the calls before that have the same quantizer still are taken from there.
        """
        before, self._values = self._values, {}
        layers = {id(part): part for step in steps for part in _parts(step.operation)}
        for layer in layers.values():
            for slot in weight_slots(layer) if isinstance(layer, Quantized) else ():
                key = id(layer), slot.attribute
                quantizer, value = before.get(key, (None, None))
                # The grid of a bias follows that of its kernel.
                if quantizer is not slot.quantizer or slot.channel_axis is None:
                    value = values_in_call(layer, [slot])[slot.attribute]
                self._values[key] = slot.quantizer, value
        return {key: value for key, (_, value) in self._values.items()}

    def _scopes(self, values: dict[tuple[int, str], Any]) -> tuple[Any, Any]:
        """In float, and with these quantized weights."""
        return context.idle(self._idle), self._quantized_scope(values)

    @contextlib.contextmanager
    def _quantized_scope(self, values: dict[tuple[int, str], Any]) -> Iterator[None]:
        with context.idle(self._entered), context.scoped(substituted=values):
            yield

    def _run(self, start: int, stop: int, tensors: dict[int, Any]) -> None:
        """Run calls, which replace tensors that are not read any more by their outputs."""
        for place in range(start, stop):
            step = self._steps[place]
            outputs = tree.flatten(_call(step, tensors))
            if step.outputs:
                tensors |= dict(zip(step.outputs, outputs, strict=True))
            for i in {*step.inputs, *step.outputs}:
                if self._last_use[i] <= place:
                    del tensors[i]


@attrs.frozen(eq=False)
class _Whole:
    """The call of a model without a graph, as a step."""

    operation: Any
    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = ()


class _Order(Observer):
    """Keeps the order of the calls of layers."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = {id(layer): layer for layer in layers}
        self.found: list[Any] = []

    def on_layer(self, layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        if id(layer) in self._layers and _multiplies(layer, args, kwargs):
            self.found.append(layer)
        return call(*args, **kwargs)


# Not an Exception, to which Keras would add the arguments of each call around it.
class _EnoughError(BaseException):
    """Ends a call whose rest is not needed."""


class _Inputs(Observer):
    """Keeps the inputs of a layer, and ends the run at one of its calls, if not 0."""

    def __init__(self, layer: Any, last: int) -> None:
        self._layer, self._last = layer, last
        self.found: list[Array] = []

    def on_layer(self, layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        if layer is self._layer and _multiplies(layer, args, kwargs):
            self.found.append(_array(_input(layer, args, kwargs)))
            if len(self.found) == self._last:
                raise _EnoughError
        return call(*args, **kwargs)


@contextlib.contextmanager
def _observed(layer: Any, observer: Observer) -> Iterator[None]:
    """Let an observer see the calls of a layer, and of those inside."""
    with keras_internals.calls_observed(layer), context.scoped(observer=observer):
        yield


def _multiplying(step: Any) -> list[Any]:
    """The layers that may multiply with a kernel in a call."""
    layer = step.operation
    if isinstance(step, Step) and isinstance(layer, keras.layers.Embedding):
        arguments = step.node.arguments
        return [layer] if _multiplies(layer, arguments.args, arguments.kwargs) else []
    return _parts(layer)


def _multiplies(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call is a product, unlike those of an embedding but in reverse."""
    if not isinstance(layer, keras.layers.Embedding):
        return True
    return bool(kwargs.get("reverse", args[1] if len(args) > 1 else False))


def _parts(operation: Any) -> list[Any]:
    """The layers that a call may reach."""
    is_layer = isinstance(operation, keras.layers.Layer)
    return keras_internals.all_layers(operation) if is_layer else []


def _arguments(step: Any, tensors: dict[int, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments of a call."""
    if isinstance(step, Step):
        keys = (id(tensor) for tensor in step.node.arguments.keras_tensors)
        known = dict(zip(keys, (tensors[i] for i in step.inputs), strict=True))
        args, kwargs = step.node.arguments.fill_in(known)
        return args, kwargs
    return (tensors[0],), {}


def _call(step: Any, tensors: dict[int, Any]) -> Any:
    args, kwargs = _arguments(step, tensors)
    return step.operation(*args, **kwargs)


def _input(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The input that a layer multiplies with its kernel, behind its quantizer."""
    x = args[0] if args else kwargs[layer.first_argument]
    # The observer would see these calls too.
    with context.scoped(observer=None):
        for slot in running_slots(layer):
            if slot.name == "input":
                x = slot.quantize(x)
    return x


def _array(x: Any) -> Array:
    """A tensor as an array of float32, which must not be written to."""
    x = ops.cast(x, "float32")
    # Keras copies, which takes long for large ones.
    shared = keras.backend.backend() in ("tensorflow", "jax")
    return np.asarray(x if shared else ops.convert_to_numpy(x))
