"""Scheduling of a graph: the kernel of each operation, and the form of each tensor."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from qframe.deployment.graph import operations
from qframe.deployment.graph.thresholds import as_thresholds
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.adding import AddCodes
from qframe_packed.compiled.allocation import reuse
from qframe_packed.compiled.codes import pad_of
from qframe_packed.compiled.depthwise import Depthwise
from qframe_packed.compiled.depthwise_codes import DepthwiseCodes
from qframe_packed.compiled.direct import in_registers
from qframe_packed.compiled.elementwise import Elementwise, row, stages_of
from qframe_packed.compiled.fallback import Fallback
from qframe_packed.compiled.finishing import Finish
from qframe_packed.compiled.forms import Ending, Forms
from qframe_packed.compiled.functions import Function
from qframe_packed.compiled.fusing import fused, widened
from qframe_packed.compiled.gating import Gate
from qframe_packed.compiled.gemm import Gemm, Pointwise
from qframe_packed.compiled.joining import Join
from qframe_packed.compiled.layout import Bits, Image
from qframe_packed.compiled.levels import Nearest, levels_of
from qframe_packed.compiled.maxima import with_maxima
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.operands import operands_of
from qframe_packed.compiled.parameters import Parameters
from qframe_packed.compiled.pooling import Mean, Pool, Softmax
from qframe_packed.compiled.pooling_codes import PoolCodes
from qframe_packed.compiled.reading import is_depthwise, multiplies_codes
from qframe_packed.compiled.tiles import FLOATS
from qframe_packed.compiled.vectors import LONGEST, padded
from qframe_packed.graph import Node, PackedGraph


class Schedule(Forms):
    """The steps of a graph."""

    def __init__(self, graph: PackedGraph) -> None:
        super().__init__(graph)
        self.inputs = []
        for index in range(len(graph.inputs)):
            self.inputs.append(self._float_buffer(index, -1))
        for index, node in enumerate(graph.nodes, len(graph.inputs)):
            self._place = index - len(graph.inputs)
            self._schedule(index, node)
        self.outputs = [self.floats(index) for index in graph.outputs]
        self.steps = [widened(s) if isinstance(s, Pointwise) else s for s in self.steps]
        self._set_lifetimes()

    def _set_lifetimes(self) -> None:
        for buffer in self.inputs:
            buffer.use(-1)
        for number, step in enumerate(self.steps):
            for buffer in step.buffers():
                buffer.use(number)
        for buffer in self.outputs:
            buffer.use(len(self.steps))
        for number, step in enumerate(self.steps):
            if isinstance(step, Ending):
                reuse(step.epilogue, step.source)
                epilogue = step.epilogue
                stages = fused(epilogue.stages, step.channels)
                epilogue.by_tensor = {epilogue.last: stages}
                self.steps[number] = in_registers(step)
                for buffer in self.steps[number].buffers():
                    buffer.use(number)

    @property
    def buffers(self) -> list[Buffer]:
        """All buffers."""
        of_steps = [buffer for step in self.steps for buffer in step.buffers()]
        return list(dict.fromkeys([*self.inputs, *of_steps, *self.outputs]))

    @property
    def movable(self) -> set[Buffer]:
        """Inputs and outputs of which only kernels know the address, each one of them.

        Kernels read nothing beyond their ends, except that `Finish` reads whole registers
        of what it adds, where the last one of a pixel may be longer than the pixel.
        """
        fixed: set[Any] = set()
        for step in self.steps:
            if isinstance(step, Fallback):
                fixed.update(step.buffers())
            elif isinstance(step, Ending) and step.channels % LONGEST:
                finishes = [s for s in step.epilogue.stages if isinstance(s, Finish)]
                fixed.update(finish.residual.source for finish in finishes)
        counts = Counter([*self.inputs, *self.outputs])
        return {buffer for buffer, count in counts.items() if count == 1} - fixed

    @property
    def functions(self) -> list[Function]:
        """All functions that steps call."""
        kernels = [step for step in self.steps if isinstance(step, Parameters)]
        return [function for kernel in kernels for function in kernel.functions()]

    # Operations

    def _schedule(self, index: int, node: Node) -> None:
        operation: Any = node.operation
        source, *_ = node.inputs
        if not self._reading.large.isdisjoint((*node.inputs, index)):
            self._schedule_fallback(index, node)
            return
        match operation:
            case operations.Quantize():
                self._schedule_quantize(index, source, operation)
            case operations.Round():
                self._schedule_round(index, source, operation)
            case operations.Conv2D() | operations.Dense():
                self._schedule_product(index, node)
            case operations.Affine() if index in self._reading.terms:
                # The sum reads the codes.
                return
            case operations.Merge() if not self._reading.terms.isdisjoint(node.inputs):
                self._schedule_sum(index, node)
            case operations.Merge() if len(self._shapes(node)) == 1:
                self._schedule_merge(index, node)
            case operations.Merge(function="multiply") if self._is_gated(index, node):
                self._schedule_gate(index, node)
            case operations.Reshape():
                self._schedule_reshape(index, source)
            case operations.MaxPool() | operations.AveragePool():
                self._schedule_pool(index, source, operation)
            case operations.Concatenate(axis=axis):
                self._schedule_join(index, node, axis)
            case operations.Pad():
                self._schedule_pad(index, source, operation)
            case operations.GlobalPool(function="average"):
                self._schedule_rows(index, source, Mean)
            case operations.Activation(function="softmax"):
                self._schedule_rows(index, source, Softmax)
            case _:
                self._schedule_other(index, node)

    def _schedule_other(self, index: int, node: Node) -> None:
        (first, *_), shape = node.inputs, self.values[index].shape
        stages = stages_of(node.operation, padded(shape[-1]) if shape else 8)
        if stages is None:
            self._schedule_fallback(index, node)
        else:
            self._extend(self._ending_at(first), index, *stages)

    def _schedule_fallback(self, index: int, node: Node) -> None:
        sources = [
            self._large[i] if i in self._large else self.floats(i) for i in node.inputs
        ]
        inputs, result = [self.values[i] for i in node.inputs], self.values[index]
        if index in self._reading.large:
            out = self._large[index] = Buffer(4 * math.prod(result.shape))
        else:
            out = self._float_buffer(index)
        self._add(Fallback(node.operation, sources, inputs, out, result))

    def _schedule_quantize(self, index: int, source: int, operation: Any) -> None:
        if self._can_be_bits(index) and index not in self._reading.codes:
            kernel = self._kernels.get(source) or self._load(source)
            self._pack(kernel, source, index, operation)
        else:
            kernel = self._ending_at(source)
            stage = levels_of(operation, kernel.channels, kernel.width)
            self._extend(kernel, index, stage)

    def _schedule_round(self, index: int, source: int, operation: Any) -> None:
        if self._can_be_bits(index) and index in self._reading.bits:
            self._schedule_quantize(index, source, as_thresholds(operation))
        else:
            self._extend(self._ending_at(source), index, Nearest.of(operation))

    def _shapes(self, node: Node) -> set[tuple[int, ...]]:
        return {self.values[i].shape for i in node.inputs}

    def _is_gated(self, index: int, node: Node) -> bool:
        """Return whether a tensor is multiplied by one pixel."""
        *pixels, channels = self.values[index].shape
        one = (*(1 for _ in pixels), channels)
        return len(node.inputs) == 2 and self._shapes(node) == {(*pixels, channels), one}

    def _schedule_gate(self, index: int, node: Node) -> None:
        factors, source = sorted(node.inputs, key=lambda i: math.prod(self.values[i].shape))
        gate = Gate(self.floats(factors), math.prod(self.values[source].shape[:-1]))
        # The factors are known now, and were not before the step that computes the source.
        self._extend(self._load(source), index, gate)

    def _schedule_sum(self, index: int, node: Node) -> None:
        """A sum of two tensors, of which one is an affine function of codes."""
        term, other = sorted(node.inputs, key=self._reading.terms.__contains__)[::-1]
        affine: Any = self.graph.nodes[term - len(self.inputs)]
        (source,) = affine.inputs
        added = self._residual(source, affine.operation, self._step_of(other))
        if added is None:
            self._schedule_other(term, affine)
            self._schedule_merge(index, node)
        else:
            self._extend(self._ending_at(other), index, AddCodes(added))

    def _schedule_merge(self, index: int, node: Node) -> None:
        operation: Any = node.operation
        function, others = operation.function, list(node.inputs)
        # The epilogue of the input that is computed last goes on.
        last = max(others, key=self._step_of)
        if last in others[:2]:
            kernel = self._ending_at(last)
        else:
            # The order of more than two matters, as each sum is rounded.
            last = others[0]
            kernel = self._load(last)
        others.remove(last)
        name = "add" if function == "average" else function
        if function in ("subtract", "divide") and node.inputs[0] != last:
            name = f"{function}_from"
        size = 4 * kernel.channels
        merges = [Elementwise.of(name, self.floats(i), pixel_bytes=size) for i in others]
        if function == "average":
            divisor = row(len(node.inputs), kernel.width)
            merges.append(Elementwise.of("average", divisor))
        self._extend(kernel, index, *merges)

    def _schedule_product(self, index: int, node: Node) -> None:
        operation: Any = node.operation
        (source,) = node.inputs
        value = self.values[source]
        if is_depthwise(operation, value):
            self._schedule_depthwise(index, source, operation)
            return
        operands = operands_of(operation, value)
        if operands is None:
            self._schedule_other(index, node)
            return
        read = self._image(source, operands.kind, operands.image, operands.pad)
        self._begin(operands.gemm(read), index)

    def _schedule_depthwise(self, index: int, source: int, operation: Any) -> None:
        value = self.values[source]
        if multiplies_codes(operation, value):
            image = Image.of_codes(value.shape, operation.pads)
            assert value.span is not None  # noqa: S101
            pad = pad_of(operation, value.span) or 0
            read = self.codes(source, image, pad)
            kernel = DepthwiseCodes.of(read, image, operation, value, self.values[index])
            self._begin(kernel, index)
            return
        image = Image.of(value.shape, operation.pads)
        read = self._image(source, FLOATS, image, operation.pad)
        out = self._float_buffer(index)
        self._add(Depthwise.of(read, image, out, operation, self.values[index]))

    def _schedule_pad(self, index: int, source: int, operation: Any) -> None:
        image = Image.of(self.values[source].shape, operation.pads)
        self._floats[index] = self._image(source, FLOATS, image, 0.0)
        self._written[index] = len(self.steps) - 1

    def _schedule_reshape(self, index: int, source: int) -> None:
        if source in self._bits and _same_bits(self.values[source], self.values[index]):
            self._bits[index] = self._bits[source]
        elif index in self._reading.codes:
            self._codes[index, None, 0] = self.codes(source)
        else:
            self._floats[index] = self.floats(source)
            self._written[index] = self._written[source]

    def _schedule_pool(self, index: int, source: int, operation: Any) -> None:
        value, result = self.values[source], self.values[index]
        if self._pool_sums(index, source, operation):
            return
        if index in self._reading.codes:
            self._pool_codes(index, source, operation)
            return
        bits = source in self._bits and Bits.of(value).planes == 1
        read = self._bits[source] if bits else self.floats(source)
        if bits:
            out = self._bits[index] = Buffer(Bits.of(result).nbytes)
        else:
            out = self._float_buffer(index)
        self._add(Pool.of(read, out, operation, value, result, bits))

    def _pool_sums(self, index: int, source: int, operation: Any) -> bool:
        """Let the kernel of a tensor pool its sums, if it can and nothing else reads it."""
        kernel = self._kernels.get(source)
        if not isinstance(kernel, Gemm) or not isinstance(operation, operations.MaxPool):
            return False
        if self.values[source].span is None:
            # The largest one of a positive and of a negative zero is either.
            return False
        chain = {*kernel.epilogue.by_tensor}
        if kernel.epilogue.last != source or not chain <= self._reading.single:
            return False
        pools = with_maxima(kernel, operation, self.values[source].shape)
        if pools is None:
            return False
        self.steps[kernel.epilogue.step] = pools
        self._extend(pools, index)
        return True

    def _pool_codes(self, index: int, source: int, operation: Any) -> None:
        image = Image.of_codes(self.values[index].shape, (0, 0, 0, 0))
        read, out = self.codes(source), Buffer(image.nbytes)
        self._codes[index, None, 0] = out
        self._add(PoolCodes.of(read, out, image, operation, self.values[source]))

    def _schedule_join(self, index: int, node: Node, axis: int) -> None:
        sources, values = node.inputs, [self.values[i] for i in node.inputs]
        if index in self._reading.codes:
            size, read = 1, [self.codes(i) for i in sources]
            out = Buffer(math.prod(self.values[index].shape))
            self._codes[index, None, 0] = out
        else:
            size, read = 4, [self.floats(i) for i in sources]
            out = self._float_buffer(index)
        for kernel in Join.of(read, out, axis, values, size):
            self._add(kernel)

    def _schedule_rows(self, index: int, source: int, kernel: type[Mean | Softmax]) -> None:
        *rows, channels = self.values[source].shape
        read, out = self.floats(source), self._float_buffer(index)
        self._add(kernel(read, math.prod(rows), channels, out))


def _same_bits(before: Value, after: Value) -> bool:
    """Return whether a tensor has the same bits in another shape."""
    if before.shape[-1:] == after.shape[-1:]:
        return True
    sizes = before.shape[-1], after.shape[-1]
    return Bits.of(before).planes == 1 and not any(size % 8 for size in sizes)
