"""The calls of layers in graphs, and in the code of layers that calls others."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.errors import QFrameError
from qframe.models.parts import is_built
from qframe.models.shapes import built_tensors
from qframe.passes.calls import Calls

# Sizes of axes that a graph leaves open: code such as that of a mask needs some number.
_BATCH, _SIZE = 2, 8


class _Link(keras.Operation):
    """What joins the tensors in code to those around it."""


@attrs.frozen(eq=False)
class _Arguments:
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = attrs.field(factory=dict)

    @property
    def keras_tensors(self) -> tuple[Any, ...]:
        return self.args


@attrs.frozen(eq=False)
class _LinkNode:
    """A call whose inputs and output are one tensor; each input is that of one trace."""

    operation: Any
    arguments: _Arguments
    outputs: list[Any]
    is_input: bool = False


def is_link(operation: Any) -> bool:
    """Return whether an operation joins the tensors in code to those around it."""
    return isinstance(operation, _Link)


def _is_code(layer: Any) -> bool:
    """Return whether the call of a layer is code of users that may call other layers."""
    return not keras_internals.runs_keras(layer) and bool(keras_internals.sublayers(layer))


class FollowedCalls(Calls):
    """The calls of the layers of a model in all live graphs, and in code.

    The code of a layer runs with symbolic tensors for each of its calls in a graph, both in
    inference and in training. What it does with other arguments than those is not seen.

    Args:
        model: the model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._code = {k: part for k, part in self.layers.items() if _is_code(part)}
        # The ids of those that were called, and why the code of others is not known.
        self._called: set[int] = set()
        self._obstacles: dict[int, str] = {}
        # By the id of a layer of code, one that it has and that no call reached.
        self._unreached: dict[int, str] = {}
        # The names of models of code, by the id of a tensor that they are called with.
        self._taken: dict[int, str] = {}
        #: The names of the layers whose code reads a weight of another, by its id.
        self.readers_of_weights: dict[int, str] = {}
        #: The arguments that the code of a layer takes and no call gave it, by its id.
        self.unused: dict[int, set[str]] = {}
        for holder in self._code.values():
            for node in self.of(holder):
                self._follow(holder, node.arguments.args, node.arguments.kwargs, node)
        for key, holder in self._code.items():
            if key not in self._called and not self._code_around[key]:
                self._follow_as_built(holder)
        self._note_unreached()

    def taken_by(self, tensor: Any) -> str | None:
        """The name of a model of code that takes a tensor; None where none does."""
        return self._taken.get(id(tensor))

    def called_by_code(self, layer: Any, besides: Any = None) -> str | None:
        around = self._code_around[id(layer)]
        unknown = (each for each in around if each is not besides)
        return next((e.name for e in unknown if not self._is_known_around(e, layer)), None)

    def obstacle(self, layer: Any, besides: Any = None) -> str:
        """Why the code that may call a layer is not known; empty without a reason."""
        around = (each for each in self._code_around[id(layer)] if each is not besides)
        for each in around:
            if not self._is_known_around(each, layer):
                found = self._obstacles.get(id(each)) or self.obstacle(each)
                return found or self._unreached.get(id(each), "")
        return ""

    def code_around(self, layer: Any) -> list[Any]:
        """The layers whose code calls a layer, with those whose code calls them."""
        around = self._code_around[id(layer)]
        return [*around, *(far for each in around for far in self.code_around(each))]

    def _is_known_around(self, holder: Any, layer: Any) -> bool:
        """Return whether the code of a layer is known, for a layer that it calls itself."""
        # What it does with others is known even where one of its layers was not called.
        return id(holder) not in self._unreached and self._is_known(holder, {id(layer)})

    def _note_unreached(self) -> None:
        """Note the code that has a layer which some other call of it may reach."""
        reached = {key for key in self.layers if self._of[key]} | self._called
        for key in reached - self._code.keys():
            # A wrapper of Keras calls what it has.
            if keras_internals.graph_of(self.layers[key]) is None:
                reached |= set(map(id, keras_internals.all_layers(self.layers[key])))
        for key in self._called:
            for part in keras_internals.sublayers(self._code[key]):
                if part.weights and id(part) not in reached:
                    self._unreached[key] = f"no call of it reaches {part.name!r}"

    def _is_known(self, holder: Any, inside: set[int]) -> bool:
        key = id(holder)
        known = key in self._called and key not in self._obstacles and key not in inside
        around = self._code_around[key]
        return known and all(self._is_known(each, {*inside, key}) for each in around)

    def _follow_as_built(self, holder: Any) -> None:
        """Follow the code of a layer that no graph calls, such as that of a model."""
        for dtype in (keras.config.floatx(), "int32"):
            arguments = built_tensors(holder, dtype)
            if arguments is None:
                self._obstacles[id(holder)] = "Keras noted no shapes of its inputs"
                return
            self._obstacles.pop(id(holder), None)
            self._follow(holder, *arguments)
            if id(holder) not in self._obstacles:
                return

    def _follow(self, holder: Any, args: Any, kwargs: Any, node: Any = None) -> None:
        """Add the calls in the code of a layer.

        Args:
            holder: the layer.
            args: its arguments.
            kwargs: its arguments by keyword.
            node: its call in a graph; None where it has none.
        """
        self._called.add(id(holder))
        if isinstance(holder, keras.Model):
            self._note_model(holder, node)
        self._note_arguments(holder, args, kwargs)
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        stand_ins: dict[int, Any] = {}
        args, kwargs = keras.tree.map_structure(
            lambda leaf: _stand_in(leaf, stand_ins), (args, kwargs)
        )
        try:
            _check_built(holder)
            self._note_reads(holder, args, kwargs)
            opened = self._opened(holder)
            traces = [
                keras_internals.calls_in_code(
                    holder, args, kwargs, opened.values(), training
                )
                for training in _modes(opened.values())
            ]
            # The same output in each trace.
            outputs = list(zip(*(found for _, found in traces), strict=True))
            joined = [] if node is None else list(zip(node.outputs, outputs, strict=True))
        # The code of users can raise anything.
        except Exception as error:
            self._obstacles[id(holder)] = _text_of(error)
            return
        for nodes, _ in traces:
            for each in nodes:
                self._add_call(each, holder)
        if node is None:
            self._outputs |= {id(t): holder.name for each in outputs for t in each}
            return
        link = _Link(name=f"call_of_{holder.name}")
        for tensor in node.arguments.keras_tensors:
            self._readers[id(tensor)].pop(id(node), None)
        for tensor in node.arguments.keras_tensors:
            self._add_node(_LinkNode(link, _Arguments((tensor,)), [stand_ins[id(tensor)]]))
        for outer, inner in joined:
            self._add_node(_LinkNode(link, _Arguments(inner), [outer]))

    def _opened(self, holder: Any) -> dict[int, Any]:
        """A layer of code, and those of code that it may call without a graph between."""
        found = {id(holder): holder}
        for part in keras_internals.sublayers(holder):
            if id(part) in self._code and id(part) not in found:
                found |= self._opened(part)
        return found

    def _add_call(self, node: Any, holder: Any) -> None:
        """Add a call in code, unless the code of the layer that it calls is known too."""
        operation, arguments = node.operation, node.arguments
        if id(operation) in self._code:
            self._called.add(id(operation))
            if isinstance(operation, keras.Model):
                self._note_model(operation, node)
            self._note_arguments(operation, arguments.args, arguments.kwargs)
            return
        self._add_node(node)
        if not isinstance(operation, keras.layers.Layer):
            for leaf in keras.tree.flatten((arguments.args, arguments.kwargs)):
                if isinstance(leaf, keras_internals.Variable):
                    self.readers_of_weights.setdefault(id(leaf), holder.name)

    def _note_model(self, model: Any, node: Any) -> None:
        """Note what a model takes and returns, since it can also be called alone."""
        if node is not None:
            self._taken |= {id(t): model.name for t in node.arguments.keras_tensors}
            self._outputs |= {id(t): model.name for t in node.outputs}

    def _note_arguments(self, holder: Any, args: Any, kwargs: Any) -> None:
        signature = inspect.signature(holder.call)
        kinds = {key: each.kind for key, each in signature.parameters.items()}
        try:
            given = signature.bind_partial(*args, **kwargs).arguments
        except TypeError:
            return
        known = {key for key, value in given.items() if value is not None}
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        left = {key for key, kind in kinds.items() if kind in named} - known
        self.unused[id(holder)] = self.unused.get(id(holder), left) & left - {"training"}

    def _note_reads(self, holder: Any, args: Any, kwargs: Any) -> None:
        reads, complete = keras_internals.variables_read(
            holder, args, kwargs, unless=lambda: False
        )
        if not complete:
            raise QFrameError("it cannot be called with tensors without values")
        for variable, (reader, *_) in reads:
            is_layer = isinstance(reader, keras.layers.Layer)
            own = keras_internals.own_variables(reader) if is_layer else []
            if not any(each is variable for each in own):
                self.readers_of_weights.setdefault(id(variable), reader.name)


def _check_built(holder: Any) -> None:
    """Raise where a call would build a layer, with variables."""
    for part in keras_internals.all_layers(holder):
        if not is_built(part):
            raise QFrameError(f"{part.name!r} is not built")


def known_shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a symbolic tensor, with some size for each axis without."""
    sizes = [_BATCH, *[_SIZE] * (len(tensor.shape) - 1)]
    shape = zip(tensor.shape, sizes[: len(tensor.shape)], strict=True)
    return tuple(other if size is None else size for size, other in shape)


def _stand_in(leaf: Any, known: dict[int, Any]) -> Any:
    """A tensor of a new graph for a tensor, with known sizes; else the argument."""
    if not isinstance(leaf, keras.KerasTensor):
        return leaf
    if id(leaf) not in known:
        known[id(leaf)] = keras.Input(batch_shape=known_shape(leaf), dtype=leaf.dtype)
    return known[id(leaf)]


def _modes(opened: Iterable[Any]) -> list[bool]:
    """Whether code runs in training: both, where it can tell."""
    return [False, True] if any(map(keras_internals.takes_training, opened)) else [False]


def _text_of(error: Exception) -> str:
    """The error of the code itself, without what each layer around it adds."""
    inner = keras_internals.original_error(error)
    while inner is not error:
        error, inner = inner, keras_internals.original_error(inner)
    if isinstance(error, QFrameError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])
