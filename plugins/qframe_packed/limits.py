"""The memory and work of one sample, derived from shapes, and their limits."""

from __future__ import annotations

import math

import attrs

from qframe.deployment.graph import operations
from qframe.deployment.graph.fused import PRODUCTS
from qframe.deployment.graph.values import Value
from qframe.errors import ArgumentError, DataError
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import MOST_PLANES

# The bytes of a number.
_NUMBER = 4
# The most output channels that kernels compute at once.
_BLOCK = 64
# The bytes for the window and the padding of each output pixel.
_PIXEL = 16
# The operations in the time that NumPy takes to begin a step of a loop.
_STEP = 2**16


@attrs.frozen
class Cost:
    """The memory and work of one sample.

    Args:
        memory: the peak memory of the tensors, with kernels and tables, in bytes.
        work: products, comparisons and other operations with numbers.
    """

    memory: int
    work: int


@attrs.frozen
class Limits:
    """The most memory and work of one sample.

    Args:
        memory: in bytes.
        work: in operations with numbers.

    Raises:
        ArgumentError: one of them is not a whole number from 1 on.
    """

    memory: int = 2**31
    work: int = 2**36

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if type(value) is not int or value < 1:
                raise ArgumentError(f"{name} is a whole number from 1 on, found {value!r}.")

    def check(self, cost: Cost) -> None:
        """Raise `DataError` for a cost that is too high."""
        self.check_memory(cost.memory)
        if cost.work > self.work:
            raise _refused("work", cost.work, f"{cost.work:.3g}", f"{self.work:.3g}")

    def check_memory(self, required: int) -> None:
        """Raise `DataError` for too many bytes."""
        if required > self.memory:
            limit = _bytes(self.memory)
            raise _refused("memory", required, _bytes(required), limit)


def _refused(name: str, required: int, size: str, limit: str) -> DataError:
    unit = "of memory" if name == "memory" else "operations"
    return DataError(
        f"the model asks for {size} {unit} for one sample, and the limit is {limit}. If "
        f"you trust who made it, write qframe.packed.load(path, {name}={required})."
    )


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def cost_of(graph: PackedGraph) -> Cost:
    """The cost of a graph, from the shapes of its tensors.

    Raises:
        DataError: the graph is wrong.
    """
    values = graph.values()
    sizes = [_NUMBER * math.prod(value.shape) for value in values]
    first, last = len(graph.inputs), last_reads(graph)
    live = sum(sizes[:first])
    peak, tables, work = live, 0, 0
    for place, node in enumerate(graph.nodes, first):
        inputs = [values[i] for i in node.inputs]
        live += sizes[place]
        padded, table = _padded(node, inputs[0]), _table(node, values[place])
        peak = max(peak, live + _NUMBER * padded)
        tables += table
        work += _work(node, inputs, values[place]) + padded + table // _NUMBER
        for index in {*node.inputs, place}:
            if last.get(index, place) == place:
                live -= sizes[index]
    return Cost(peak + tables, work)


def last_reads(graph: PackedGraph) -> dict[int, int]:
    """The last tensor computed from each tensor; outputs are read at the end."""
    reads = {
        index: place
        for place, node in enumerate(graph.nodes, len(graph.inputs))
        for index in node.inputs
    }
    return reads | dict.fromkeys(graph.outputs, len(graph.inputs) + len(graph.nodes))


def _work(node: Node, inputs: list[Value], output: Value) -> int:
    match node.operation:
        case (
            operations.Conv2D(kernel=kernel)
            | operations.Conv2DTranspose(kernel=kernel)
            | operations.Dense(kernel=kernel)
        ):
            per_number = math.prod(kernel.shape[1:])
        case operations.Recurrence(kernel=kernel):
            return inputs[0].shape[0] * (_STEP + math.prod(kernel.shape))
        case operations.Matmul():
            per_number = inputs[0].shape[-1]
        case operations.MaxPool(pool=pool) | operations.AveragePool(pool=pool):
            per_number = math.prod(pool)
        case _:
            per_number = max(1, _thresholds(node.operation))
    reads = sum(math.prod(x.shape) for x in inputs)
    return math.prod(output.shape) * per_number + reads


def _padded(node: Node, x: Value) -> int:
    """The numbers of a padded image; 0 without padding."""
    if isinstance(node.operation, operations.Conv2DTranspose):
        # The pixels with zeros between them and around.
        sizes = zip(node.operation.size, node.operation.kernel.shape[1:3], strict=True)
        return math.prod(size + reach for size, reach in sizes) * x.shape[2]
    pads: tuple[int, ...] = getattr(node.operation, "pads", ())
    if not any(pads):
        return 0
    top, bottom, left, right = pads
    return (x.shape[0] + top + bottom) * (x.shape[1] + left + right) * x.shape[2]


def _table(node: Node, output: Value) -> int:
    """The bytes that an operation needs between two predictions."""
    channels = output.shape[-1] if output.shape else 1
    operation = node.operation
    if thresholds := _thresholds(operation):
        return _NUMBER * thresholds * (channels + 8)
    if isinstance(operation, operations.Lookup):
        # The integers, unpacked, and their codes.
        return 2 * _NUMBER * math.prod(operation.kernel.shape)
    if isinstance(operation, operations.Recurrence):
        # The integers, unpacked, and the numbers of 64 bits.
        return 4 * _NUMBER * math.prod(operation.kernel.shape)
    if not isinstance(operation, PRODUCTS):
        return _NUMBER * _NUMBER * (channels + 8)
    outputs, *window = operation.kernel.shape
    groups = getattr(operation, "groups", 1)
    weights = _NUMBER * (outputs + groups * _BLOCK) * math.prod(window)
    pixels = math.prod(output.shape[:-1])
    return weights + _PIXEL * pixels + _edges(operation, output, channels)


def _thresholds(operation: operations.Operation) -> int:
    """The thresholds that numbers are compared with; 0 if there are none."""
    match operation:
        case operations.Quantize(thresholds=thresholds):
            return len(thresholds)
        case operations.Round(low=low, high=high):
            # Its levels may be kept as bits, which are made by comparison.
            return high - low if (high - low).bit_length() <= MOST_PLANES else 0
    return 0


def _edges(operation: operations.Operation, output: Value, channels: int) -> int:
    """The bytes for the windows that reach beyond the image, by the part outside."""
    if not any(getattr(operation, "pads", ())):
        return 0
    height, width = operation.kernel.shape[1:3]  # type: ignore[attr-defined]
    kinds = math.prod(
        min(size, 2 * window + 1)
        for size, window in zip(output.shape[:2], (height, width), strict=True)
    )
    return kinds * (9 * height * width + 3 * _NUMBER * channels)
