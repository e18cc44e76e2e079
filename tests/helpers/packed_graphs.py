"""Small graphs of packed models, made without Keras."""

import numpy as np
from hypothesis import strategies as st

from qframe.deployment.graph import operations as op
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.values import Value
from qframe.errors import DataError
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor

F = np.float32


def sign(**arguments):
    thresholds = np.zeros(1, np.float32)
    return op.Quantize(**{"thresholds": thresholds, "low": -1, "step": 2, **arguments})


def int8_kernel(rng, *shape):
    """Integers of all 8 bits."""
    return PackedTensor.of(rng.integers(-128, 128, shape))


def chain(shape, *steps, outputs=None):
    """A graph of operations, one after another, that returns the last tensor or these."""
    nodes = tuple(Node(step, (i,), f"layer{i}") for i, step in enumerate(steps))
    return PackedGraph((tuple(shape),), nodes, outputs or (len(steps),))


def names_of(graph):
    """Its operations, in order."""
    return [node.operation.name for node in graph.nodes]


def tensors(graph, *inputs):
    """All that a graph computes, without the runtime."""
    values = list(inputs)
    for node in graph.nodes:
        values.append(run(node.operation, *(values[i] for i in node.inputs)))
    return values


def computed(graph, *inputs):
    """What a graph returns, without the runtime."""
    values = tensors(graph, *inputs)
    return [values[i] for i in graph.outputs]


def adds_exactly(graph, *inputs):
    """Whether float32 holds each sum of products of floats, in any order of adding."""
    values = tensors(graph, *inputs)
    for node in graph.nodes:
        kernel, x = getattr(node.operation, "kernel", None), values[node.inputs[0]]
        packed = isinstance(kernel, PackedTensor)
        if kernel is None or (packed and x.dtype.kind == "i"):
            continue
        factors = kernel.integers() if packed else kernel
        x = np.append(x[np.isfinite(x)], getattr(node.operation, "pad", 0))
        most = np.abs(x).max() * np.abs(factors).max() * np.prod(factors.shape[1:])
        if not most < 2**24 * _grid(x) * _grid(factors):
            return False
    return True


def _grid(x):
    """The largest power of 2 of which all numbers are multiples."""
    mantissa, exponent = np.frexp(x[x != 0].astype(np.float64))
    whole = (mantissa * 2**53).astype(np.int64)
    return np.min((whole & -whole) * 2.0 ** (exponent - 53), initial=2.0**24)


def _kernel(rng, shape, kind):
    if kind == "float":
        return rng.normal(size=shape).astype(np.float32)
    choices = {"binary": [-1, 1], "ternary": [-1, 0, 1], "3-bit": [-4, -3, -1, 0, 2, 3]}
    return PackedTensor.of(rng.choice(choices[kind], shape))


def _affine(rng, channels, dyadic):
    # Ties, a channel that is switched off, and channels that are turned around.
    scale = rng.choice([0, 0.5, 1, -1, -0.25, 2 if dyadic else 0.3], channels)
    shift = rng.choice([0, 1, -2, 0.5 if dyadic else 0.1, -1.5], channels)
    return op.Affine(scale=scale.astype(np.float32), shift=shift.astype(np.float32))


def _operation(rng, name, x, kind, dyadic):
    channels = x.shape[-1]
    if name == "conv2d":
        groups = int(rng.choice([1, channels]))
        size = int(rng.integers(1, 4))
        pads = tuple(int(p) for p in rng.integers(0, size, 4))
        shape = (groups * int(rng.integers(1, 4)), size, size, channels // groups)
        pad = float(rng.choice([0, 1, -1]))
        kernel = _kernel(rng, shape, kind)
        strides = tuple(int(s) for s in rng.integers(1, 3, 2))
        return op.Conv2D(kernel=kernel, pads=pads, pad=pad, groups=groups, strides=strides)
    if name == "dense":
        return op.Dense(kernel=_kernel(rng, (3, channels), kind))
    if name == "affine":
        return _affine(rng, channels, dyadic)
    if name == "quantize":
        count = int(rng.integers(1, 4))
        thresholds = np.sort(rng.choice(np.arange(-4, 4) / 2, count)).astype(np.float32)
        return op.Quantize(thresholds=thresholds, low=int(rng.integers(-2, 1)), step=1)
    if name == "round":
        low, factor = int(rng.choice([0, 0, -3, -8, -128])), float(rng.choice([1, 2, 7]))
        high = low + int(rng.choice([4, 7, 15, 200]))
        return op.Round(
            low=low, high=high, factor=factor, divisor=float(F(rng.choice([1, 0.3])))
        )
    if name == "max_pool":
        return op.MaxPool(pads=tuple(int(p) for p in rng.integers(0, 2, 4)))
    if name == "reshape":
        return op.Reshape(shape=(int(np.prod(x.shape)),))
    if name == "move":
        name = rng.choice(["repeat", "slice", "transpose"])
    if name == "slice":
        sizes = rng.integers(1, np.add(x.shape, 1))
        starts = rng.integers(0, np.subtract(x.shape, sizes) + 1)
        return op.Slice(
            starts=tuple(map(int, starts)),
            sizes=tuple(map(int, sizes)),
            steps=(1,) * len(sizes),
        )
    if name == "transpose":
        return op.Transpose(axes=tuple(int(a) + 1 for a in rng.permutation(len(x.shape))))
    if name == "repeat":
        return op.Repeat(axis=int(rng.integers(1, len(x.shape) + 1)), count=2)
    if name == "hard_tanh":
        return op.Activation(function="hard_tanh")
    if name == "clamp":
        return op.Activation(function="relu", most=[None, 20.0][rng.integers(2)])
    return op.Activation(function="relu", alpha=0.5, most=2.0)


# What follows a product in a network, in order; each may be there or not.
QUANTIZERS = ("quantize", "round")
AFTER = (
    "max_pool",
    "affine",
    "affine",
    "move",
    "hard_tanh",
    "relu",
    "clamp",
    "max_pool",
    "reshape",
)


@st.composite
def names(draw):
    """The operations of a few blocks of a network."""
    operations = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            operations.append(draw(st.sampled_from(QUANTIZERS)))
        operations.append(draw(st.sampled_from(["conv2d", "dense"])))
        # What moves numbers is rare, as it keeps others from meeting.
        operations += [
            name for name in AFTER if draw(st.integers(0, 5 if name == "move" else 1)) == 0
        ]
    if draw(st.booleans()):
        operations.append(draw(st.sampled_from(QUANTIZERS)))
    return operations


@st.composite
def graphs(draw, dyadic=False):
    """A chain of operations, some of whose results are added to it again.

    Where it is `dyadic`, few of its numbers need rounding.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shape = tuple(int(size) for size in rng.integers(2, 7, 3))
    values, nodes = [Value(shape)], []
    for name in draw(names()):
        last = len(values) - 1
        kind = draw(st.sampled_from(["binary", "ternary", "3-bit", "float"]))
        try:
            operation = _operation(rng, name, values[last], kind, dyadic)
            values.append(PackedGraph.infer(operation, values[last]))
        except DataError:
            continue
        nodes.append(Node(operation, (last,), name))
        same = [i for i, value in enumerate(values[:-1]) if value == values[-1]]
        if same and values[-1].span is None and rng.random() < 0.3:
            nodes.append(Node(op.Merge(function="add"), (same[0], len(values) - 1), "add"))
            values.append(values[-1])
    return PackedGraph((shape,), tuple(nodes), (len(values) - 1,))


def inputs_of(graph, count=3):
    """Batches with ties among them."""
    rng = np.random.default_rng(0)
    shape = (count, *graph.inputs[0])
    halves = rng.integers(-6, 7, shape) / 2
    return [halves.astype(np.float32), rng.normal(size=shape).astype(np.float32)]
