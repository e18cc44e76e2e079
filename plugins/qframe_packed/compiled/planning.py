"""From a graph to steps: which kernel does what, and in which form tensors are kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qframe_packed import operations
from qframe_packed.compiled import links, steps
from qframe_packed.compiled.chains import Code
from qframe_packed.compiled.links import Link
from qframe_packed.compiled.memory import Slot
from qframe_packed.compiled.placing import share
from qframe_packed.compiled.products import MOST_PLANES, Image, product_of
from qframe_packed.compiled.steps import Bits, Chained, Fallback, Step, is_large
from qframe_packed.compiled.tiles import FLOATS
from qframe_packed.graph import Graph, Node
from qframe_packed.packing import Packed
from qframe_packed.values import Value

_MERGES = {
    "add": Code.ADD,
    "average": Code.ADD,
    "multiply": Code.MULTIPLY,
    "subtract": Code.SUBTRACT,
}


class Plan:
    """The steps of a graph.

    A tensor is kept as floats, as bits, or both, as those that read it need it; where it is
    only read by what follows in its chain, it is not kept at all.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = graph.values()
        self.steps: list[Step] = []
        # Of each step, the place of the node that it is done for.
        self.owners: list[int] = []
        self._floats: dict[int, Slot] = {}
        self._bits: dict[int, Slot] = {}
        self._large: dict[int, Slot] = {}
        # The step after which a tensor is there as floats.
        self._made: dict[int, int] = {}
        # Of each tensor that a chain computes: the chain, and the step after which.
        self._chains: dict[int, Chained] = {}
        self._place = 0
        self.inputs = []
        for index in range(len(graph.inputs)):
            self.inputs.append(self._float_slot(index, -1))
        for index, node in enumerate(graph.nodes, len(graph.inputs)):
            self._place = index - len(graph.inputs)
            self._take(index, node)
        self.outputs = [self.floats(index) for index in graph.outputs]
        self._last()

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.owners.append(self._place)

    def _last(self) -> None:
        """From which step to which each slot is needed."""
        for slot in self.inputs:
            slot.used(-1)
        for number, step in enumerate(self.steps):
            for slot in step.slots():
                slot.used(number)
        for slot in self.outputs:
            slot.used(len(self.steps))
        for number, step in enumerate(self.steps):
            if isinstance(step, Chained):
                share(step, number)

    @property
    def slots(self) -> list[Slot]:
        """All that is kept."""
        found = [slot for step in self.steps for slot in step.slots()]
        return list(dict.fromkeys([*self.inputs, *found, *self.outputs]))

    # Forms

    def _float_slot(self, index: int, made: int | None = None) -> Slot:
        """Room for a tensor that a step, by default the next one, writes."""
        slot = Slot(4 * math.prod(self.values[index].shape))
        self._floats[index] = slot
        self._made[index] = len(self.steps) if made is None else made
        return slot

    def _is_bits(self, index: int) -> bool:
        """Whether a tensor can be bits."""
        value = self.values[index]
        return (
            value.span is not None and value.span.bits <= MOST_PLANES and bool(value.shape)
        )

    def floats(self, index: int) -> Slot:
        """A tensor as floats, for those steps that come now."""
        if index in self._floats:
            return self._floats[index]
        if index in self._chains:
            slot = self._float_slot(index, self._made_at(index))
            self._chains[index].chain.at[index].append(links.store(slot))
            return slot
        if index in self._large:
            value, slot = self.values[index], self._float_slot(index)
            given, real = [self._large[index]], Value(value.shape)
            self._add(Fallback(operations.Affine(), given, [value], slot, real))
            return slot
        source, slot = self._bits[index], self._float_slot(index)
        self._add(steps.unpack(source, slot, Bits.of(self.values[index])))
        return slot

    def bits(self, index: int) -> Slot:
        """A tensor as bits, for those steps that come now."""
        if index not in self._bits:
            value = self.values[index]
            span = value.span
            assert span is not None  # noqa: S101
            # The middle between two integers tells them apart.
            between = span.low + span.step * (np.arange(1, span.count) - 0.5)
            quantize = operations.Quantize(
                thresholds=between.astype(np.float32), low=span.low, step=span.step
            )
            chain = self._loaded(index)
            self._quantize(chain, index, index, quantize)
        return self._bits[index]

    # Chains

    def _begin(self, chain: Chained, index: int) -> None:
        chain.number = len(self.steps)
        self._add(chain)
        chain.chain.extend(index)
        self._chains.setdefault(index, chain)

    def _loaded(self, index: int) -> Chained:
        """A chain whose numbers are those of a tensor."""
        source, shape = self.floats(index), self.values[index].shape
        chain = steps.change(source, math.prod(shape[:-1]), shape[-1] if shape else 1)
        self._begin(chain, index)
        return chain

    def _extend(self, chain: Chained, index: int, *more: Link) -> None:
        """The numbers of a chain become those of another tensor."""
        chain.chain.extend(index, *more)
        self._chains[index] = chain

    def _made_at(self, index: int) -> int:
        """The step after which a tensor is there as floats, or would be if asked for."""
        if index in self._made:
            return self._made[index]
        chain = self._chains.get(index)
        return len(self.steps) if chain is None else chain.number

    def _quantize(
        self, chain: Chained, source: int, index: int, operation: operations.Quantize
    ) -> None:
        layout = Bits.of(self.values[index])
        slot = self._bits[index] = Slot(layout.nbytes)
        link = links.planes(operation, chain.channels, chain.width, slot, layout.planes)
        chain.chain.at[source].append(link)

    # Operations

    def _take(self, index: int, node: Node) -> None:
        operation = node.operation
        if any(is_large(self.values[i]) for i in (*node.inputs, index)):
            self._take_fallback(index, node)
            return
        match operation:
            case operations.Quantize():
                self._take_quantize(index, node)
            case operations.Conv2D() | operations.Dense():
                self._take_product(index, node)
            case operations.Merge() if self._can_merge(node):
                self._take_merge(index, node)
            case operations.Reshape():
                self._take_reshape(index, node)
            case operations.MaxPool() | operations.AveragePool():
                self._take_pool(index, node)
            case operations.Pad():
                self._take_pad(index, node)
            case operations.GlobalPool(function="average"):
                self._take_mean(index, node)
            case operations.Activation(function="softmax"):
                self._take_softmax(index, node)
            case _:
                self._take_other(index, node)

    def _take_other(self, index: int, node: Node) -> None:
        (first, *_), shape = node.inputs, self.values[index].shape
        width = -(-shape[-1] // 8) * 8 if shape else 8
        if links.changes(node.operation, width) is None:
            self._take_fallback(index, node)
            return
        chain = self._chain_at(first)
        self._extend(chain, index, *links.changes(node.operation, chain.width) or ())

    def _take_fallback(self, index: int, node: Node) -> None:
        slots = [
            self._large[i] if i in self._large else self.floats(i) for i in node.inputs
        ]
        given, value = [self.values[i] for i in node.inputs], self.values[index]
        if is_large(value):
            out = self._large[index] = Slot(4 * math.prod(value.shape))
        else:
            out = self._float_slot(index)
        self._add(Fallback(node.operation, slots, given, out, value))

    def _chain_at(self, index: int) -> Chained:
        """A chain that can go on from a tensor."""
        chain = self._chains.get(index)
        if chain is None or chain.chain.tensors[-1] != index:
            return self._loaded(index)
        return chain

    def _take_quantize(self, index: int, node: Node) -> None:
        (source,), operation = node.inputs, _any(node)
        if self._is_bits(index):
            chain = self._chains.get(source) or self._loaded(source)
            self._quantize(chain, source, index, operation)
        else:
            chain = self._chain_at(source)
            link = links.levels(operation, chain.channels, chain.width)
            self._extend(chain, index, link)

    def _can_merge(self, node: Node) -> bool:
        shapes = {self.values[i].shape for i in node.inputs}
        return len(shapes) == 1 and _any(node).function in _MERGES

    def _take_merge(self, index: int, node: Node) -> None:
        function, others = _any(node).function, list(node.inputs)
        # The chain goes on from what is computed last.
        last = max(others, key=self._made_at)
        if last in others[:2]:
            chain = self._chain_at(last)
        else:
            # The order of more than two matters, as each sum is rounded.
            last = others[0]
            chain = self._loaded(last)
        others.remove(last)
        code = _MERGES[function]
        if function == "subtract" and node.inputs[0] != last:
            code = Code.SUBTRACT_FROM
        found = [links.merge(code, self.floats(i), chain.channels) for i in others]
        if function == "average":
            found.append(links.divide(len(node.inputs), chain.width))
        self._extend(chain, index, *found)

    def _take_product(self, index: int, node: Node) -> None:
        operation, (source,) = _any(node), node.inputs
        value = self.values[source]
        if _is_depthwise(operation, value):
            self._take_depthwise(index, node)
            return
        product = product_of(operation, value)
        if product is None:
            self._take_other(index, node)
            return
        flat = isinstance(operation, operations.Dense)
        given = self._image(source, product.image, product.pad, flat)
        chain = steps.multiply(given, product)
        self._begin(chain, index)

    def _image(self, source: int, image: Image, pad: float, flat: bool = False) -> Slot:
        """A tensor as the image that windows are read from; `flat`: its pixels in a row."""
        shape = self.values[source].shape
        if flat:
            shape = (math.prod(shape[:-1]), 1, shape[-1])
        out = Slot(image.nbytes)
        if image.kind is not FLOATS:
            bits = Bits.of(self.values[source])
            step: Step = steps.spread(self.bits(source), out, shape, bits, image, int(pad))
        elif (image.rows, image.columns) == shape[:2]:
            return self.floats(source)
        else:
            step = steps.surround(self.floats(source), out, shape, image, pad)
        self._add(step)
        return out

    def _take_depthwise(self, index: int, node: Node) -> None:
        (source,), operation = node.inputs, _any(node)
        kernel = operation.kernel
        numbers = kernel.integers() if isinstance(kernel, Packed) else kernel
        weights = np.ascontiguousarray(numbers[..., 0].transpose(1, 2, 0), np.float32)
        image = _around(operation.pads, self.values[source])
        given = self._image(source, image, operation.pad)
        places = self.values[index].shape[:2]
        out = self._float_slot(index)
        self._add(steps.depthwise(given, out, operation, image, weights, places))

    def _take_pad(self, index: int, node: Node) -> None:
        (source,) = node.inputs
        image = _around(_any(node).pads, self.values[source])
        self._floats[index] = self._image(source, image, 0.0)
        self._made[index] = len(self.steps) - 1

    def _take_reshape(self, index: int, node: Node) -> None:
        (source,) = node.inputs
        if source in self._bits and _same_bits(self.values[source], self.values[index]):
            self._bits[index] = self._bits[source]
        else:
            self._floats[index] = self.floats(source)
            self._made[index] = self._made[source]

    def _take_pool(self, index: int, node: Node) -> None:
        (source,) = node.inputs
        value, after = self.values[source], self.values[index]
        bits = source in self._bits and Bits.of(value).planes == 1
        given = self._bits[source] if bits else self.floats(source)
        if bits:
            out = self._bits[index] = Slot(Bits.of(after).nbytes)
        else:
            out = self._float_slot(index)
        places = after.shape[:2]
        self._add(steps.pool(given, out, node.operation, value.shape, places, bits))

    def _take_mean(self, index: int, node: Node) -> None:
        (source,) = node.inputs
        *pixels, channels = self.values[source].shape
        given, out = self.floats(source), self._float_slot(index)
        self._add(steps.mean(given, out, math.prod(pixels), channels))

    def _take_softmax(self, index: int, node: Node) -> None:
        (source,) = node.inputs
        *rows, channels = self.values[source].shape
        given, out = self.floats(source), self._float_slot(index)
        self._add(steps.softmax(given, out, math.prod(rows), channels))


def _any(node: Node) -> Any:
    """The operation of a node, of which it was asked before what it is."""
    return node.operation


def _is_depthwise(operation: Any, value: Value) -> bool:
    groups = getattr(operation, "groups", 1)
    return groups > 1 and groups == value.shape[-1] == len_of(operation.kernel)


def len_of(kernel: Any) -> int:
    """The output channels of a kernel."""
    return int(kernel.shape[0])


def _around(pads: tuple[int, ...], value: Value) -> Image:
    top, bottom, left, right = pads
    height, width, channels = value.shape
    return Image(
        FLOATS, height + top + bottom, width + left + right, channels, top, left, 1
    )


def _same_bits(before: Value, after: Value) -> bool:
    """Whether the bits of a tensor are in the same place in another shape."""
    if before.shape[-1:] == after.shape[-1:]:
        return True
    sizes = before.shape[-1], after.shape[-1]
    return Bits.of(before).planes == 1 and not any(size % 8 for size in sizes)
