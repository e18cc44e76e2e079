"""The memory and work of one sample, known before anything is computed, and limits."""

from __future__ import annotations

import math

import attrs

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Value
from qframe.errors import ArgumentError, DataError
from qframe_packed.graph import Graph, Node

_NUMBER = 4
# The most output channels that kernels compute at once.
_BLOCK = 64
# Of each pixel of an output: where its window is, and how it is padded.
_PIXEL = 16


@attrs.frozen
class Cost:
    """What one sample asks for.

    Args:
        memory: the bytes of tensors that exist at one time, of kernels and of tables.
        work: products, comparisons and other operations with numbers.
    """

    memory: int
    work: int


@attrs.frozen
class Limits:
    """The most that one sample may ask for.

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

    def check_memory(self, asked: int) -> None:
        """Raise `DataError` for too many bytes."""
        if asked > self.memory:
            raise _refused("memory", asked, _bytes(asked), _bytes(self.memory))


def _refused(name: str, asked: int, size: str, limit: str) -> DataError:
    what = "of memory" if name == "memory" else "operations"
    return DataError(
        f"the model asks for {size} {what} for one sample, and the limit is {limit}. If "
        f"you trust who made it, write qframe.packed.load(path, {name}={asked})."
    )


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def cost_of(graph: Graph) -> Cost:
    """The cost of a graph, from the shapes of its tensors.

    Raises:
        DataError: the graph is wrong.
    """
    values = graph.values()
    sizes = [_NUMBER * math.prod(value.shape) for value in values]
    first, last = len(graph.inputs), last_reads(graph)
    kept = sum(sizes[:first])
    most, tables, work = kept, 0, 0
    for place, node in enumerate(graph.nodes, first):
        inputs = [values[i] for i in node.inputs]
        kept += sizes[place]
        padded, more = _padded(node, inputs[0]), _table(node, inputs[0], values[place])
        most = max(most, kept + _NUMBER * padded)
        tables += more
        work += _work(node, inputs, values[place]) + padded + more // _NUMBER
        for index in {*node.inputs, place}:
            if last.get(index, place) == place:
                kept -= sizes[index]
    return Cost(most + tables, work)


def last_reads(graph: Graph) -> dict[int, int]:
    """Of each tensor, the last that is computed from it; outputs are read at the end."""
    reads = {
        index: place
        for place, node in enumerate(graph.nodes, len(graph.inputs))
        for index in node.inputs
    }
    return reads | dict.fromkeys(graph.outputs, len(graph.inputs) + len(graph.nodes))


def _work(node: Node, inputs: list[Value], output: Value) -> int:
    match node.operation:
        case operations.Conv2D(kernel=kernel) | operations.Dense(kernel=kernel):
            each = math.prod(kernel.shape[1:])
        case operations.MaxPool(pool=pool) | operations.AveragePool(pool=pool):
            each = math.prod(pool)
        case operations.Quantize(thresholds=thresholds):
            each = len(thresholds)
        case _:
            each = 1
    return math.prod(output.shape) * each + sum(math.prod(x.shape) for x in inputs)


def _padded(node: Node, x: Value) -> int:
    """The numbers of a padded image; 0 without padding."""
    pads: tuple[int, ...] = getattr(node.operation, "pads", ())
    if not any(pads):
        return 0
    top, bottom, left, right = pads
    return (x.shape[0] + top + bottom) * (x.shape[1] + left + right) * x.shape[2]


def _table(node: Node, x: Value, output: Value) -> int:
    """The bytes that are kept for an operation between two predictions."""
    channels = output.shape[-1] if output.shape else 1
    operation = node.operation
    if isinstance(operation, operations.Quantize):
        return _NUMBER * len(operation.thresholds) * (channels + 8)
    if not isinstance(operation, (operations.Conv2D, operations.Dense)):
        return _NUMBER * _NUMBER * (channels + 8)
    outputs, *taken = operation.kernel.shape
    groups = getattr(operation, "groups", 1)
    weights = _NUMBER * (outputs + groups * _BLOCK) * math.prod(taken)
    pixels = math.prod(output.shape[:-1])
    return weights + _PIXEL * pixels + _edges(operation, output, channels)


def _edges(operation: operations.Operation, output: Value, channels: int) -> int:
    """The bytes for pixels whose windows reach beyond the image in different ways."""
    if not any(getattr(operation, "pads", ())):
        return 0
    height, width = operation.kernel.shape[1:3]  # type: ignore[attr-defined]
    kinds = math.prod(
        min(size, 2 * taps + 1)
        for size, taps in zip(output.shape[:2], (height, width), strict=True)
    )
    return kinds * (9 * height * width + 3 * _NUMBER * channels)
