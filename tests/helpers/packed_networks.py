"""Networks of tensors of one shape, each read any number of times, of 1 to 16 bits."""

import attrs
import numpy as np
from hypothesis import strategies as st

from packed_checks import F, integers, per_channel
from packed_graphs import sign
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.values import Value
from qframe.errors import DataError
from qframe_packed.graph import Node, PackedGraph

# Few bits are the common case; 16 take the reference some time.
BITS = [*range(1, 13)] * 3 + [13, 14, 15, 16]


def quantizer(rng, bits, channels):
    """A quantizer of so many bits, evenly spaced or not, for each channel or not."""
    count = int(rng.integers(2 ** (bits - 1), 2**bits)) if bits > 1 else 1
    spacing = F(8 / 2**bits)
    if rng.random() < 0.3:
        low = int(rng.choice([-count // 2, 0]))
        return op.Round(low=low, high=low + count, divisor=float(spacing))
    thresholds = (np.arange(count) - count // 2).astype(F) * spacing
    direction = None
    if rng.random() < 0.5:
        direction = rng.choice([-1, 1], channels).astype(np.int8)
    kind = rng.choice(["even", "uneven", "channels"])
    if kind == "uneven":
        thresholds[count // 2 :] += 2
    if kind == "channels":
        shift = rng.integers(-4, 5, channels).astype(F) / 2
        thresholds = thresholds[:, None] + shift
    low, step = int(rng.choice([-count, -1, 0, 3])), int(rng.choice([1, 1, 2]))
    return op.Quantize(thresholds=thresholds, direction=direction, low=low, step=step)


def product(rng, channels):
    """A convolution, depthwise or not, with weights of 1 to 8 bits."""
    size, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, channels]))
    most = 2 ** int(rng.choice([0, 0, 1, 3, 6]))
    of = (-1, 1) if most == 1 else tuple(range(-most, most))
    seed = int(rng.integers(99))
    kernel = integers(channels, size, size, channels // groups, of=of, seed=seed)
    around = (size - 1, 0, 0, size - 1)
    pad = float(rng.choice([-1, 0, 1]))
    return op.Conv2D(kernel=kernel, pads=around, pad=pad, groups=groups)


def operation(rng, shape):
    """An operation that keeps the shape; all of them take floats, and some integers."""
    channels = shape[-1]
    direction = rng.choice([-1, 1], channels).astype(np.int8)
    kind = rng.integers(10)
    if kind < 3:
        return quantizer(rng, int(rng.choice(BITS)), channels)
    if kind < 5:
        return product(rng, channels)
    if kind < 7:
        function = str(rng.choice(["add", "subtract", "average", "multiply", "maximum"]))
        return op.Merge(function=function)
    scale = rng.choice([-1, 0.25, 0.5], channels).astype(F)
    shift = rng.choice([-1.5, 0, 2], channels).astype(F)
    if rng.random() < 0.3:
        scale, shift = rng.normal(size=(2, channels)).astype(F)
    choices = (
        *(op.Affine(scale=scale, shift=shift), op.Affine(scale=scale)),
        *(op.Activation(function="relu", most=4), op.Activation(function="hard_tanh")),
        *(sign(direction=direction), per_channel(channels, low=0, step=1)),
        op.MaxPool(pool=(2, 2), strides=(1, 1), pads=(0, 1, 1, 0), direction=direction),
        *(op.Reshape(shape=shape), op.Pad(pads=(0, 0, 0, 0))),
    )
    return choices[rng.integers(len(choices))]


def _read(rng, operation, count):
    """The tensors that an operation reads, most of them computed shortly before."""
    arity = 1
    if operation.arity is None:
        arity = 3 if operation.function == "add" and rng.random() < 0.3 else 2
    back = rng.integers(1, rng.choice([2, 4, 20]), arity)
    return tuple(int(max(count - b, 0)) for b in back)


@st.composite
def networks(draw, whole_products=False):
    """Tensors of one shape, with any number of channels, each read any number of times.

    Where they have `whole_products` only, no product of floats is added up.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    shape = (*size, draw(st.integers(1, 40)))
    values, nodes = [Value(shape)] * 2, []
    for _ in range(draw(st.integers(1, 12))):
        chosen = operation(rng, shape)
        read = _read(rng, chosen, len(values))
        if isinstance(chosen, op.Quantize) and values[read[0]].span:
            if not np.isfinite(chosen.thresholds).all():
                continue
            edges = chosen.thresholds.round().astype(np.int32)
            chosen = attrs.evolve(chosen, thresholds=edges)
        if whole_products and isinstance(chosen, op.Conv2D) and not values[read[0]].span:
            continue
        try:
            values.append(PackedGraph.infer(chosen, *(values[i] for i in read)))
        except DataError:
            continue
        nodes.append(Node(chosen, read, chosen.name))
    outputs = rng.choice(len(values), int(rng.integers(1, 4)))
    return PackedGraph((shape, shape), tuple(nodes), tuple(map(int, outputs)))
