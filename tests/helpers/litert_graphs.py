"""Graphs of one operation for LiteRT, made without Keras."""

import functools

import numpy as np

import litert_builtin
import litert_reference
import litert_xnnpack
from litert_files import BUILTIN, REFERENCE, XNNPACK, interpret, read
from litert_kernels import evaluate
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.rounding import Rounding
from qframe.deployment.graph.thresholds import even_thresholds
from qframe_litert.conversion import Conversion
from qframe_litert.flatbuffer import encode
from qframe_litert.writer import Settings

F = np.float32
KERNELS = {
    XNNPACK: litert_xnnpack.KERNELS,
    BUILTIN: litert_builtin.KERNELS,
    REFERENCE: litert_reference.KERNELS,
}


@functools.cache
def quantizer(scale, zero_point=0, low=-128, high=127):
    """A quantizer to integers from `low` to `high`, whose zero is at `zero_point`."""
    scale = float(F(scale))
    low, high = low - zero_point, high - zero_point
    thresholds = even_thresholds(Rounding("half_even", divisor=scale), low, high)
    grid = {"scale": scale, "zero_point": zero_point, "rounding": "half_even"}
    return op.Quantize(thresholds, low=low, step=1, **grid)


def single(operation, shapes, readers, quantize=None, activation=None, bias=None):
    """A graph that quantizes its inputs and runs one operation.

    Args:
        operation: one of floats or a product, which is fused with the rest; or one that
            moves integers, if there is no `quantize`.
        shapes: of the inputs.
        readers: their quantizers.
        quantize: that of the result. Default None.
        activation: a ReLU. Default None.
        bias: that of a product, in steps of its sums. Default None.
    """
    count = len(shapes)
    if quantize is not None:
        scales = tuple(reader.scale for reader in readers)
        operation = Fused(operation, scales, bias, activation, quantize)
    nodes = [Node(reader, (i,), f"read_{i}") for i, reader in enumerate(readers)]
    nodes.append(Node(operation, tuple(range(count, 2 * count)), "layer"))
    return Graph(tuple(shapes), tuple(nodes), (2 * count,))


def written(graph, **settings):
    """The bytes of a graph as a file."""
    return encode(Conversion(graph, Settings(**settings)).model(), "qframe")


def levels(rng, graph, batch=2):
    """Integers of the inputs, counted from the zero point; ends are frequent."""
    inputs = []
    for shape, node in zip(graph.inputs, graph.nodes, strict=False):
        span = node.operation.grid.span
        x = rng.integers(span.low, span.high + 1, (batch, *shape))
        extreme = rng.choice([span.low, span.high], x.shape)
        x = np.where(rng.random(x.shape) < rng.choice([0, 0.1, 1]), extreme, x)
        inputs.append(x.astype(np.int32))
    return inputs


def expected(graph, inputs):
    """What the reference of the graph returns for integers from the zero point on."""
    last = graph.nodes[-1].operation
    return run(last, *inputs)


def outputs(graph, inputs, kernels, **settings):
    """The result of the runtime, and that of its kernels in NumPy.

    Both are integers counted from the zero point.
    """
    content = written(graph, **settings)
    file = read(content)
    stored = [x + file.tensors[i].zero for x, i in zip(inputs, file.inputs, strict=True)]
    (found,) = interpret(content, stored, kernels)
    (modelled,) = evaluate(file, stored, KERNELS[kernels])
    zero = file.tensors[file.outputs[0]].zero
    return found.astype(int) - zero, modelled.astype(int) - zero


def integers(rng, shape, largest=127):
    """A kernel with one scale for each output channel; some are far from others."""
    values = rng.integers(-largest, largest + 1, shape)
    scale = 2.0 ** rng.uniform(-12, -4, shape[0])
    if rng.random() < 0.3:
        scale[rng.integers(shape[0])] *= 2.0**-20
    if rng.random() < 0.3:
        values[rng.integers(shape[0])] = 0
    return Kernel(values, scale.astype(F))
