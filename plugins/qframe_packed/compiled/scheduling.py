"""Scheduling of a graph: the kernel of each operation, and the form of each tensor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qframe.deployment.graph import operations
from qframe.deployment.graph.thresholds import as_thresholds
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.allocation import reuse
from qframe_packed.compiled.depthwise import Depthwise
from qframe_packed.compiled.elementwise import Elementwise, row, stages_of
from qframe_packed.compiled.epilogue import Store
from qframe_packed.compiled.fallback import Fallback, is_large
from qframe_packed.compiled.functions import Function
from qframe_packed.compiled.gemm import Gemm, Pointwise
from qframe_packed.compiled.layout import Bits, Image, Spread, Surround, Unpack
from qframe_packed.compiled.levels import Pack, levels_of
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.operands import MOST_PLANES, operands_of
from qframe_packed.compiled.parameters import Parameters
from qframe_packed.compiled.pooling import Mean, Pool, Softmax
from qframe_packed.compiled.vectors import padded
from qframe_packed.graph import Node, PackedGraph

_MERGES = ("add", "average", "multiply", "subtract")

Step = Parameters | Fallback


class Schedule:
    """The steps of a graph.

    A tensor is floats, bits, or both, as the steps that read it need. A tensor that only
    later stages of its epilogue read has no buffer.
    """

    def __init__(self, graph: PackedGraph) -> None:
        self.graph = graph
        self.values = graph.values()
        self.steps: list[Step] = []
        # The node of each step, by its place.
        self.owners: list[int] = []
        self._floats: dict[int, Buffer] = {}
        self._bits: dict[int, Buffer] = {}
        self._large: dict[int, Buffer] = {}
        # The step that writes a tensor as floats.
        self._written: dict[int, int] = {}
        # The kernel whose epilogue computes a tensor.
        self._kernels: dict[int, Gemm | Pointwise] = {}
        self._place = 0
        self.inputs = []
        for index in range(len(graph.inputs)):
            self.inputs.append(self._float_buffer(index, -1))
        for index, node in enumerate(graph.nodes, len(graph.inputs)):
            self._place = index - len(graph.inputs)
            self._schedule(index, node)
        self.outputs = [self.floats(index) for index in graph.outputs]
        self._set_lifetimes()

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.owners.append(self._place)

    def _set_lifetimes(self) -> None:
        for buffer in self.inputs:
            buffer.use(-1)
        for number, step in enumerate(self.steps):
            for buffer in step.buffers():
                buffer.use(number)
        for buffer in self.outputs:
            buffer.use(len(self.steps))
        for step in self.steps:
            if isinstance(step, (Gemm, Pointwise)):
                reuse(step.epilogue, step.source)

    @property
    def buffers(self) -> list[Buffer]:
        """All buffers."""
        of_steps = [buffer for step in self.steps for buffer in step.buffers()]
        return list(dict.fromkeys([*self.inputs, *of_steps, *self.outputs]))

    @property
    def functions(self) -> list[Function]:
        """All functions that steps call."""
        kernels = [step for step in self.steps if isinstance(step, Parameters)]
        return [function for kernel in kernels for function in kernel.functions()]

    # Forms of tensors

    def _float_buffer(self, index: int, step: int | None = None) -> Buffer:
        """A buffer for a tensor that a step, by default the next one, writes."""
        buffer = self._floats[index] = Buffer(4 * math.prod(self.values[index].shape))
        self._written[index] = len(self.steps) if step is None else step
        return buffer

    def _can_be_bits(self, index: int) -> bool:
        value = self.values[index]
        return (
            value.span is not None and value.span.bits <= MOST_PLANES and bool(value.shape)
        )

    def floats(self, index: int) -> Buffer:
        """A tensor as floats, for the next steps."""
        if index in self._floats:
            return self._floats[index]
        if index in self._kernels:
            buffer = self._float_buffer(index, self._step_of(index))
            self._kernels[index].epilogue.by_tensor[index].append(Store(buffer))
            return buffer
        value, buffer = self.values[index], self._float_buffer(index)
        if index in self._large:
            large, real = [self._large[index]], Value(value.shape)
            self._add(Fallback(operations.Affine(), large, [value], buffer, real))
        else:
            self._add(Unpack(self._bits[index], Bits.of(value), buffer))
        return buffer

    def bits(self, index: int) -> Buffer:
        """A tensor as bits, for the next steps."""
        if index not in self._bits:
            span = self.values[index].span
            assert span is not None  # noqa: S101
            between = span.low + span.step * (np.arange(1, span.count) - 0.5)
            quantize = operations.Quantize(
                thresholds=between.astype(np.float32), low=span.low, step=span.step
            )
            self._pack(self._load(index), index, index, quantize)
        return self._bits[index]

    # Epilogues

    def _begin(self, kernel: Gemm | Pointwise, index: int) -> None:
        kernel.epilogue.step = len(self.steps)
        self._add(kernel)
        kernel.epilogue.extend(index)
        self._kernels.setdefault(index, kernel)

    def _load(self, index: int) -> Pointwise:
        """A kernel whose epilogue begins with the numbers of a tensor."""
        source, shape = self.floats(index), self.values[index].shape
        pixels, channels = math.prod(shape[:-1]), shape[-1] if shape else 1
        kernel = Pointwise.of(source, pixels, channels)
        self._begin(kernel, index)
        return kernel

    def _extend(self, kernel: Gemm | Pointwise, index: int, *stages: Parameters) -> None:
        """Let the numbers of an epilogue become those of another tensor."""
        kernel.epilogue.extend(index, *stages)
        self._kernels[index] = kernel

    def _ending_at(self, index: int) -> Gemm | Pointwise:
        """A kernel whose epilogue can go on from a tensor."""
        kernel = self._kernels.get(index)
        if kernel is None or kernel.epilogue.last != index:
            return self._load(index)
        return kernel

    def _step_of(self, index: int) -> int:
        """The step that writes a tensor as floats, or would."""
        if index in self._written:
            return self._written[index]
        kernel = self._kernels.get(index)
        return len(self.steps) if kernel is None else kernel.epilogue.step

    def _pack(
        self,
        kernel: Gemm | Pointwise,
        source: int,
        index: int,
        operation: operations.Quantize,
    ) -> None:
        bits = Bits.of(self.values[index])
        out = self._bits[index] = Buffer(bits.nbytes)
        stage = Pack.of(operation, kernel.width, out, bits)
        kernel.epilogue.by_tensor[source].append(stage)

    # Operations

    def _schedule(self, index: int, node: Node) -> None:
        operation: Any = node.operation
        source, *_ = node.inputs
        if any(is_large(self.values[i]) for i in (*node.inputs, index)):
            self._schedule_fallback(index, node)
            return
        match operation:
            case operations.Quantize():
                self._schedule_quantize(index, source, operation)
            case operations.Round():
                self._schedule_quantize(index, source, as_thresholds(operation))
            case operations.Conv2D() | operations.Dense():
                self._schedule_product(index, node)
            case operations.Merge() if self._can_merge(node):
                self._schedule_merge(index, node)
            case operations.Reshape():
                self._schedule_reshape(index, source)
            case operations.MaxPool() | operations.AveragePool():
                self._schedule_pool(index, source, operation)
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
        if is_large(result):
            out = self._large[index] = Buffer(4 * math.prod(result.shape))
        else:
            out = self._float_buffer(index)
        self._add(Fallback(node.operation, sources, inputs, out, result))

    def _schedule_quantize(self, index: int, source: int, operation: Any) -> None:
        if self._can_be_bits(index):
            kernel = self._kernels.get(source) or self._load(source)
            self._pack(kernel, source, index, operation)
        else:
            kernel = self._ending_at(source)
            stage = levels_of(operation, kernel.channels, kernel.width)
            self._extend(kernel, index, stage)

    def _can_merge(self, node: Node) -> bool:
        operation: Any = node.operation
        shapes = {self.values[i].shape for i in node.inputs}
        return len(shapes) == 1 and operation.function in _MERGES

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
        if function == "subtract" and node.inputs[0] != last:
            name = "subtract_from"
        size = 4 * kernel.channels
        merges = [Elementwise.of(name, self.floats(i), pixel_bytes=size) for i in others]
        if function == "average":
            divisor = row(len(node.inputs), kernel.width)
            merges.append(Elementwise.of("divide", divisor))
        self._extend(kernel, index, *merges)

    def _schedule_product(self, index: int, node: Node) -> None:
        operation: Any = node.operation
        (source,) = node.inputs
        value = self.values[source]
        if _is_depthwise(operation, value):
            self._schedule_depthwise(index, source, operation)
            return
        operands = operands_of(operation, value)
        if operands is None:
            self._schedule_other(index, node)
            return
        image, pad, gemm = operands
        self._begin(gemm(self._image(source, image, pad)), index)

    def _image(self, source: int, image: Image, pad: float) -> Buffer:
        """A tensor in the layout of an image."""
        unpadded = (image.rows, image.columns) == (image.height, image.width)
        if unpadded and not image.planes:
            return self.floats(source)
        out = Buffer(image.nbytes)
        if image.planes:
            bits = Bits.of(self.values[source])
            self._add(Spread.of(self.bits(source), bits, image, out, int(pad)))
        else:
            self._add(Surround(self.floats(source), image, out, pad))
        return out

    def _schedule_depthwise(self, index: int, source: int, operation: Any) -> None:
        image = Image.of(self.values[source].shape, operation.pads)
        read, out = self._image(source, image, operation.pad), self._float_buffer(index)
        self._add(Depthwise.of(read, image, out, operation, self.values[index]))

    def _schedule_pad(self, index: int, source: int, operation: Any) -> None:
        image = Image.of(self.values[source].shape, operation.pads)
        self._floats[index] = self._image(source, image, 0.0)
        self._written[index] = len(self.steps) - 1

    def _schedule_reshape(self, index: int, source: int) -> None:
        if source in self._bits and _same_bits(self.values[source], self.values[index]):
            self._bits[index] = self._bits[source]
        else:
            self._floats[index] = self.floats(source)
            self._written[index] = self._written[source]

    def _schedule_pool(self, index: int, source: int, operation: Any) -> None:
        value, result = self.values[source], self.values[index]
        bits = source in self._bits and Bits.of(value).planes == 1
        read = self._bits[source] if bits else self.floats(source)
        if bits:
            out = self._bits[index] = Buffer(Bits.of(result).nbytes)
        else:
            out = self._float_buffer(index)
        self._add(Pool.of(read, out, operation, value, result, bits))

    def _schedule_rows(self, index: int, source: int, kernel: type[Mean | Softmax]) -> None:
        *rows, channels = self.values[source].shape
        read, out = self.floats(source), self._float_buffer(index)
        self._add(kernel(read, math.prod(rows), channels, out))


def _is_depthwise(operation: Any, value: Value) -> bool:
    groups = getattr(operation, "groups", 1)
    return groups > 1 and (groups, groups) == (value.shape[-1], operation.kernel.shape[0])


def _same_bits(before: Value, after: Value) -> bool:
    """Return whether a tensor has the same bits in another shape."""
    if before.shape[-1:] == after.shape[-1:]:
        return True
    sizes = before.shape[-1], after.shape[-1]
    return Bits.of(before).planes == 1 and not any(size % 8 for size in sizes)
