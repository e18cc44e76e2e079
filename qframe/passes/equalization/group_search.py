"""The search for all layers that share the scales of channels, through the graphs."""

from __future__ import annotations

import collections
from typing import Any

import attrs

from qframe.errors import QFrameError
from qframe.passes.equalization.attentions import ATTENTIONS, arguments_of, projections
from qframe.passes.equalization.channel_groups import Maker, Part, Reader
from qframe.passes.equalization.followed_code import FollowedCalls
from qframe.passes.equalization.norms import Norms
from qframe.passes.equalization.passages import (
    check_activation,
    factors_of,
    moved,
    origin,
    others_of,
    reads_place,
    source_of,
)
from qframe.passes.equalization.places import Place
from qframe.passes.equalization.scaled_parts import axes_made, input_part, made_by
from qframe.passes.proofs import check_function, check_weights, is_product


def check_layer(layer: Any, calls: FollowedCalls) -> None:
    """Raise for a layer whose calls, function or weights are not known.

    Raises:
        QFrameError: with the reason.
    """
    check_function(layer, "equalize")
    check_owner(layer, calls)
    if not layer.built:
        raise QFrameError(f"{layer.name!r} is not built, since no call reaches it")


def check_owner(layer: Any, calls: FollowedCalls, besides: Any = None) -> None:
    """Raise where the calls of a layer, or who reads its weights, are not known.

    Raises:
        QFrameError: with the reason.
    """
    check_calls(layer, calls, besides)
    if id(layer) not in calls.layers:
        raise QFrameError(f"code calls {layer.name!r}, which is no attribute of a layer")
    check_weights(layer, calls)
    for weight in layer.variables:
        reader = calls.readers_of_weights.get(id(weight))
        if reader is not None:
            raise QFrameError(f"the code of {reader!r} reads a weight of {layer.name!r}")


def check_calls(layer: Any, calls: FollowedCalls, besides: Any = None) -> None:
    """Raise where code that is not known may call a layer.

    Raises:
        QFrameError: with the reason.
    """
    code = calls.called_by_code(layer, besides)
    if code is not None:
        reason = calls.obstacle(layer, besides)
        reason = reason and f", which cannot be followed: {reason}"
        raise QFrameError(f"{layer.name!r} may be called by the code of {code!r}{reason}")


class Draft:
    """The layers that a scale of the channels of a layer reaches.

    Args:
        calls: the calls of the layers of a model.
        norms: the normalizations that may make channels.
        whole: whether each axis of an output that a kernel makes has its own channels, as
            the heads of an attention; else only the last one has.
    """

    def __init__(self, calls: FollowedCalls, norms: Norms, whole: bool) -> None:
        self._calls, self._norms, self._whole = calls, norms, whole
        self.makers: dict[int, Maker] = {}
        self.readers: dict[int, Reader] = {}
        self.count = 0
        #: Why the layers are no group; the search goes on, to find them all.
        self.reason = ""
        #: Whether several axes tell channels apart.
        self.is_split = False
        self._places: dict[int, Place] = {}
        self._queue: collections.deque[Any] = collections.deque()
        self._products: dict[int, Any] = {}

    def start(self, layer: Any) -> None:
        """Follow the output of a layer to all that a scale of its channels reaches."""
        self._attempt(self._add_maker, layer)
        while self._queue:
            tensor = self._queue.popleft()
            self._attempt(self._follow_back, tensor)
            for node in self._calls.readers(tensor):
                self._attempt(self._follow, node, tensor)
        for node in self._products.values():
            placed = [each for each in factors_of(node) if id(each) in self._places]
            if len(placed) != 1:
                self._fail(f"{node.operation.name!r} multiplies its outputs by each other")

    def _attempt(self, step: Any, *args: Any) -> None:
        try:
            step(*args)
        except QFrameError as error:
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        self.reason = self.reason or reason

    def _put(self, tensor: Any, place: Place) -> None:
        known = self._places.get(id(tensor))
        if known is None:
            self._places[id(tensor)] = place
            self._queue.append(tensor)
        elif not known.equals(place):
            raise QFrameError("its channels meet others in another order")

    def _put_like(self, tensor: Any, like: Any, reader: Any) -> None:
        """Put channels where a layer that is called several times reads them."""
        if len(tensor.shape) != len(like.shape):
            raise QFrameError(f"{reader.name!r} reads tensors of different ranks")
        self._put(tensor, self._places[id(like)])

    def _add_maker(self, layer: Any, tensor: Any = None) -> None:
        """Add a layer whose output has channels; without a tensor, the first layer."""
        if id(layer) in self.makers:
            return
        is_norm = self._norms.has(layer)
        if is_norm and self._norms.is_of_user(layer):
            check_owner(layer, self._calls)
        else:
            check_layer(layer, self._calls)
        nodes = self._calls.of(layer)
        if not nodes:
            raise QFrameError(f"no call of the model reaches {layer.name!r}")
        parts: list[Part] = []
        if tensor is None:
            tensor = nodes[0].outputs[0]
            made, parts = self._made_by(layer, len(tensor.shape))
            self.count, self.is_split = made.channels.size, len(made.axes) > 1
            self._put(tensor, made)
        place = self._places[id(tensor)]
        for node in nodes:
            output = node.outputs[0]
            axes = [axis - len(tensor.shape) + len(output.shape) for axis in place.axes]
            made, parts = self._made_by(layer, len(output.shape), tuple(axes))
            if made.channels.shape != place.channels.shape:
                raise QFrameError("its channels meet others in another order")
            self._put(output, Place(made.axes, place.channels))
        numbers = place.channels.ravel()
        parts = [attrs.evolve(p, channels=numbers[p.channels]) for p in parts]
        self.makers[id(layer)] = Maker(layer, tuple(parts), None if is_norm else parts[0])

    def _made_by(
        self, layer: Any, rank: int, axes: tuple[int, ...] | None = None
    ) -> tuple[Place, list[Part]]:
        """The channels in the output of a layer, of a rank; along some axes if given."""
        if self._norms.has(layer):
            return self._norms.made_by(layer, rank)
        check_activation(getattr(layer, "activation", None), layer.name)
        if axes is None:
            axes = axes_made(layer, rank)
            axes = axes if self._whole else axes[-1:]
        return made_by(layer, rank, axes)

    def _follow_back(self, tensor: Any) -> None:
        """Find what makes a tensor with channels."""
        place = self._places[id(tensor)]
        model = self._calls.returned_by(tensor)
        if model is not None:
            self._fail(f"the channels are an output of {model!r}")
        model = self._calls.taken_by(tensor)
        if model is not None:
            self._fail(f"the channels are an input of {model!r}")
        node = self._calls.maker(tensor)
        if node is None:
            raise QFrameError("the channels are those of an input of its model")
        layer = node.operation
        if is_product(layer) or self._norms.has(layer):
            self._add_maker(layer, tensor)
            return
        factors = factors_of(node)
        if factors:
            self._products[id(node)] = node
            if not any(id(each) in self._places for each in factors):
                raise QFrameError(f"no scale passes {layer.name!r} backwards")
            return
        if not reads_place(node, lambda each: id(each) in self._places):
            self._put(source_of(node), origin(node, place))

    def _follow(self, node: Any, tensor: Any) -> None:
        """Find where the channels of a tensor go in a call that reads it."""
        layer, place = node.operation, self._places[id(tensor)]
        if is_product(layer):
            check_layer(layer, self._calls)
            self._add_reader(layer, tensor)
            for each in self._calls.of(layer):
                self._put_like(each.arguments.keras_tensors[0], tensor, layer)
        elif isinstance(layer, ATTENTIONS):
            self._add_attention(layer, node, tensor)
        else:
            self._put(node.outputs[0], moved(node, tensor, place))
            if factors_of(node):
                self._products[id(node)] = node
                if len({id(each) for each in factors_of(node)}) < len(factors_of(node)):
                    self._fail(f"{layer.name!r} multiplies its outputs by each other")
            for other in others_of(node, tensor):
                self._put(other, place)

    def _add_reader(self, layer: Any, tensor: Any) -> None:
        place, known = self._places[id(tensor)], self.readers.get(id(layer))
        if known is None:
            kernel = input_part(layer, place, len(tensor.shape))
            self.readers[id(layer)] = Reader(layer, kernel, place)
        elif not known.place.equals(place):
            raise QFrameError(f"{layer.name!r} reads the channels in several orders")

    def _add_attention(self, layer: Any, node: Any, tensor: Any) -> None:
        """Add the projections of an attention that read a tensor."""
        check_function(layer, "equalize")
        check_calls(layer, self._calls)
        for argument, value in arguments_of(node).items():
            if value is not tensor:
                continue
            readers = projections(layer, argument)
            if not readers:
                raise QFrameError(f"the channels are the {argument} of {layer.name!r}")
            for part in readers:
                self._add_projection(layer, part, tensor)
            for other in self._calls.of(layer):
                self._put_like(arguments_of(other)[argument], tensor, layer)

    def _add_projection(self, attention: Any, part: Any, tensor: Any) -> None:
        check_function(part, "equalize")
        check_owner(part, self._calls, besides=attention)
        self._add_reader(part, tensor)
