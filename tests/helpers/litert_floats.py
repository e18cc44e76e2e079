"""Operations of LiteRT on floats, with drawn shapes and numbers, alone in a graph."""

import numpy as np

from litert_cases import Draw
from litert_graphs import F, integers
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.operations.recurring import GATES


def alone(operation, *shapes):
    """A graph of one operation on its inputs."""
    node = Node(operation, tuple(range(len(shapes))), "layer", "layer")
    return Graph(shapes, (node,), (len(shapes),))


def kernel(draw, shape):
    """Weights as floats, or as integers with scales."""
    if draw.rng.random() < 0.5:
        return integers(draw.rng, shape)
    return draw.rng.normal(size=shape).astype(F)


def biased(draw, product, shape):
    """A product alone, or with a bias and a ReLU."""
    if draw.rng.random() < 0.3:
        return alone(product, shape)
    bias = draw.rng.normal(size=product.kernel.shape[0])
    return alone(Fused(product, (None,), bias, draw.relu()), shape)


def dense(draw):
    shape = (*draw.image()[: draw.rng.integers(3)], int(draw.rng.integers(1, 40)))
    return biased(
        draw, op.Dense(kernel(draw, (int(draw.rng.integers(1, 9)), shape[-1]))), shape
    )


def convolution(draw, groups):
    rng = draw.rng
    inside, count = (1, groups) if groups > 1 and rng.random() < 0.5 else (2, groups)
    shape = (*draw.pair(5, 9), inside * count)
    size, dilation = draw.pair(1, 4), draw.pair(1, 3)
    strides = draw.pair(1, 3) if dilation == (1, 1) else (1, 1)
    reach = tuple((n - 1) * d + 1 for n, d in zip(size, dilation, strict=True))
    pads = draw.padding(shape, reach, strides, any_border=True)
    pad = float(rng.choice([0, 0.5])) if any(pads) else 0.0
    weights = kernel(draw, (2 * count, *size, inside))
    conv = op.Conv2D(weights, strides, dilation, pads, pad, groups=count)
    return biased(draw, conv, shape)


def transposed(draw):
    shape, strides, size = (*draw.pair(2, 5), 3), draw.pair(1, 4), draw.pair(1, 5)
    crops = tuple(int(draw.rng.integers(n)) for n in size)
    full = [
        (pixels - 1) * stride + reach - crop
        for pixels, stride, reach, crop in zip(shape, strides, size, crops, strict=False)
    ]
    weights = kernel(draw, (2, *size, 3))
    return biased(draw, op.Conv2DTranspose(weights, tuple(full), strides, crops), shape)


def merge(draw, function, count):
    shape = draw.image()
    shapes = [shape] * count
    shapes[-1] = tuple(1 if draw.rng.random() < 0.3 else n for n in shape)
    return alone(op.Merge(function), *shapes)


def image(draw, make):
    shape = draw.image()
    return alone(make(draw.rng, shape), shape)


def pool(draw, kind):
    shape, size, strides = draw.image(), draw.pair(1, 4), draw.pair(1, 4)
    size = tuple(min(n, full) for n, full in zip(size, shape, strict=False))
    return alone(kind(size, strides, draw.padding(shape, size, strides)), shape)


def loop(draw, function):
    """A cell with drawn activations, of which at least that of its output is bounded."""
    rng = draw.rng
    units, steps = (int(n) for n in rng.integers(1, 6, 2))
    sums = GATES[function] * units
    weights, scale = _numbers(rng, (sums, units)) / 2, None
    if rng.random() < 0.5:
        weights = Kernel(rng.integers(-8, 8, (sums, units)))
        scale = np.asarray(rng.uniform(0.02, 0.2, sums if rng.random() < 0.5 else ()), F)
    gates = [None, *(op.Activation(n) for n in ("sigmoid", "hard_sigmoid", "relu"))]
    operation = op.Recurrence(
        function,
        weights,
        scale,
        _numbers(rng, sums) if function == "gru_reset_after" else None,
        op.Activation(str(rng.choice(["tanh", "softsign", "softmax"]))),
        rng.choice(gates) if function != "simple_rnn" else None,
        str(rng.choice(["forwards", "backwards"])),
        str(rng.choice(["last", "all", "reversed"])),
    )
    return alone(operation, (steps, sums))


def _numbers(rng, count):
    return np.asarray(rng.normal(size=count), F)


def rows(draw):
    """The rows of a matrix of five."""
    return alone(op.Lookup(draw.rng.normal(size=(5, 3)).astype(F)), (4,))


def _normalize(function, *axes):
    return lambda draw: image(draw, lambda rng, shape: op.Normalize(axes, 1e-3, function))


FUNCTIONS = {
    **{name: op.Activation(name) for name in op.FUNCTIONS},
    "clip": op.Activation("clip", least=-0.5, most=0.7),
    "clip, one end": op.Activation("clip", most=0.7),
    "elu": op.Activation("elu", alpha=1.0),
    "elu, a factor": op.Activation("elu", alpha=0.3),
    "leaky_tanh": op.Activation("leaky_tanh", alpha=0.1),
    "relu, ends at 6": op.Activation("relu", most=6.0),
    "relu, ends": op.Activation("relu", most=1.5),
    "relu, a slope": op.Activation("relu", alpha=0.2, most=2.0),
    "relu, a threshold": op.Activation("relu", threshold=0.5),
    "relu, a slope and a threshold": op.Activation("relu", alpha=-0.2, threshold=0.5),
}
MERGES = {
    "add": 3,
    "average": 4,
    "divide": 2,
    "maximum": 3,
    "minimum": 2,
    "multiply": 3,
    "subtract": 2,
}
MOVES = {
    "global average": lambda rng, shape: op.GlobalPool("average"),
    "global max": lambda rng, shape: op.GlobalPool("max"),
    "pad": lambda rng, shape: op.Pad(tuple(int(n) for n in rng.integers(0, 3, 4))),
    "reshape": lambda rng, shape: op.Reshape((shape[2], shape[0] * shape[1])),
    "slice": lambda rng, shape: op.Slice((0, 0, 0), (1, *shape[1:]), (1, 1, 1)),
    "transpose": lambda rng, shape: op.Transpose((3, 1, 2)),
    "repeat": lambda rng, shape: op.Repeat(int(rng.integers(1, 3)), 3),
    "resize": lambda rng, shape: op.Resize((7, 2 * shape[1])),
    "affine": lambda rng, shape: op.Affine(_numbers(rng, shape[2]), _numbers(rng, ())),
    "shift": lambda rng, shape: op.Affine(None, _numbers(rng, shape[2])),
    "slopes": lambda rng, shape: op.PReLU(_numbers(rng, (1, 1, shape[2]))),
    "slopes of numbers": lambda rng, shape: op.PReLU(_numbers(rng, shape)),
}
CASES = {
    "dense": dense,
    "convolution": lambda draw: convolution(draw, 1),
    "grouped convolution": lambda draw: convolution(draw, 3),
    "transposed convolution": transposed,
    "matrices": lambda draw: alone(
        op.Matmul(float(draw.rng.choice([1, 0.3]))), (2, 3, 4), (2, 4, 5)
    ),
    "rows": rows,
    **{name: lambda draw, name=name: loop(draw, name) for name in GATES},
    "max pool": lambda draw: pool(draw, op.MaxPool),
    "average pool": lambda draw: pool(draw, op.AveragePool),
    "concatenate": lambda draw: alone(op.Concatenate(2), (2, 3), (2, 1), (2, 4)),
    "layer normalization": _normalize("standard", 3),
    "normalization of two axes": _normalize("standard", 1, 2),
    "rms normalization": _normalize("rms", 3),
    **{
        name: lambda draw, name=name, count=count: merge(draw, name, count)
        for name, count in MERGES.items()
    },
    **{name: lambda draw, make=make: image(draw, make) for name, make in MOVES.items()},
    **{
        name: lambda draw, each=each: image(draw, lambda rng, shape: each)
        for name, each in FUNCTIONS.items()
    },
}


def drawn(name, seed):
    """A graph of a case, and numbers for its inputs, some of them large."""
    rng = np.random.default_rng(seed)
    graph = CASES[name](Draw(rng))
    batch, size = int(rng.choice([1, 3])), rng.choice([1, 1, 5])
    inputs = [size * _numbers(rng, (batch, *shape)) for shape in graph.inputs]
    if name == "rows":
        inputs = [rng.integers(5, size=x.shape).astype(F) for x in inputs]
    if name == "sqrt":
        inputs = [np.abs(x) for x in inputs]
    if name == "divide":
        inputs[1] = np.copysign(np.abs(inputs[1]) + F(0.1), inputs[1])
    return graph, inputs
