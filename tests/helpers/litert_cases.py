"""Operations of LiteRT with drawn shapes, scales, zero points, paddings and numbers."""

from collections.abc import Callable

import attrs
import numpy as np

from litert_graphs import F, integers, quantizer, single
from qframe.deployment.graph import operations as op
from qframe.deployment.lowering.images import pads_of


@attrs.frozen(eq=False)
class Draw:
    """Drawn parts of a graph whose activations have some bits, and weights some others."""

    rng: np.random.Generator
    bits: int = 8
    weight: int = 127

    def scale(self, low=-8, high=0):
        return float(F(2.0 ** self.rng.uniform(low, high)))

    def grid(self, scale=None):
        """A quantizer to all integers of the type."""
        if self.bits == 16:
            scale = scale or self.scale(-14, -6)
            return quantizer(scale, 0, -(2**15) + 1, 2**15 - 1)
        zero = self.rng.choice([-128, 127, 0, self.rng.integers(-128, 128)])
        return quantizer(scale or self.scale(), int(zero))

    def relu(self):
        most = [None, None, 6.0, 1.5][self.rng.integers(4)]
        return op.Activation("relu", most=most) if self.rng.random() < 0.6 else None

    def image(self):
        return tuple(int(n) for n in self.rng.integers(1, 9, 3))

    def pair(self, low, high):
        return tuple(int(n) for n in self.rng.integers(low, high, 2))

    def padding(self, shape, reach, strides, any_border=False):
        borders = tuple(int(self.rng.integers(reach[i // 2])) for i in range(4))
        same = pads_of("same", shape, reach, strides)
        return [(0, 0, 0, 0), same, borders][self.rng.integers(3 if any_border else 2)]


def _product(draw, operation, shape):
    rng, kernel, x = draw.rng, operation.kernel, draw.grid()
    count = np.prod(kernel.shape[1:])
    most = 2.0 ** (draw.bits - 2) * draw.weight / 2
    bias = np.rint(rng.normal(size=kernel.shape[0]) * np.sqrt(count) * most)
    if rng.random() < 0.2:
        bias[rng.integers(len(bias))] = rng.choice([1 - 2**30, 2**30 - 1])
    # From sums that saturate to those that are a few steps.
    part = rng.choice([1, 30, 100, 300]) * 2.0 ** (draw.bits - 8)
    scale = float(np.median(kernel.scale)) * x.scale * np.sqrt(count) * most / part
    y, bias = draw.grid(float(F(scale))), bias.astype(np.int32)
    return single(operation, [shape], [x], y, draw.relu(), bias)


def dense(draw):
    rng = draw.rng
    shape = (
        *(int(n) for n in rng.integers(1, 4, rng.integers(3))),
        int(rng.integers(1, 40)),
    )
    outputs = int(rng.choice([1, 2, 8, 17]))
    kernel = integers(rng, (outputs, shape[-1]), draw.weight)
    return _product(draw, op.Dense(kernel), shape)


def convolution(draw, groups="one"):
    rng, channels = draw.rng, int(draw.rng.choice([1, 2, 3, 4, 8, 9, 17]))
    shape = (*draw.pair(1, 9), channels)
    size = tuple(int(rng.integers(1, min(4, full) + 1)) for full in shape[:2])
    wanted, strides = draw.pair(1, 3), draw.pair(1, 4)
    pairs = list(zip(wanted, size, shape, strict=False))
    dilation = tuple(d if (n - 1) * d + 1 <= full else 1 for d, n, full in pairs)
    reach = tuple((n - 1) * d + 1 for n, d in zip(size, dilation, strict=True))
    count = {"one": 1, "each": channels}.get(groups)
    if count is None:
        count = int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
    outputs = count * int(rng.integers(1, 20 if count == 1 else 3))
    kernel = integers(rng, (outputs, *size, channels // count), draw.weight)
    pads = draw.padding(shape, reach, strides, any_border=True)
    conv = op.Conv2D(kernel, strides, dilation, pads, groups=count)
    return _product(draw, conv, shape)


def merge(draw, function):
    shape = draw.image()
    x, y, out = draw.grid(), draw.grid(), draw.grid()
    if function == "multiply":
        # Within 16 bits.
        out = draw.grid(float(F(x.scale * y.scale * 2.0 ** draw.rng.uniform(2, 9))))
    return single(op.Merge(function), [shape, shape], [x, y], out, draw.relu())


def several(draw, function, same=False):
    """A sum or a mean of several tensors, on one grid or not, some of them smaller."""
    shape, least = draw.image(), 2 if function == "average" else 3
    count = int(draw.rng.integers(least, 6))
    first = draw.grid()
    readers = [
        first if same else draw.grid(first.scale * draw.scale(-4, 4)) for _ in range(count)
    ]
    shapes = [shape] * count
    if not same:
        ones = draw.rng.random((count, 3)) < 0.2
        ones[0] = False
        shapes = [tuple(int(n) for n in np.where(row, 1, shape)) for row in ones]
    most = max(reader.scale for reader in readers)
    part = 1 / count if function == "average" else 1
    out = draw.grid(float(F(most * part * 2.0 ** draw.rng.uniform(-1, 3))))
    return single(op.Merge(function), shapes, readers, out, draw.relu())


def on_floats(draw, operation, fuses=True):
    """An operation of one image whose result has another grid."""
    relu = draw.relu() if fuses else None
    return single(operation, [draw.image()], [draw.grid()], draw.grid(), relu)


def affine(draw):
    shape = draw.image()
    scale, shift = draw.rng.normal(size=(2, shape[2])).astype(F)
    scale[np.abs(scale) < 0.01] = 1
    steps = op.Affine(scale, shift * F(0.01 if draw.bits == 16 else 1))
    return single(steps, [shape], [draw.grid()], draw.grid(), draw.relu())


def function(draw, name, scale=None, zero=0):
    y = draw.grid() if scale is None else quantizer(scale, zero)
    return single(op.Activation(name), [draw.image()], [draw.grid(draw.scale(-7, -2))], y)


def _pool(draw, kind):
    shape = draw.image()
    pool = tuple(int(draw.rng.integers(1, min(full, 4) + 1)) for full in shape[:2])
    strides = draw.pair(1, 4)
    return kind(pool, strides, draw.padding(shape, pool, strides)), shape


def average_pool(draw, same=False):
    pool, shape = _pool(draw, op.AveragePool)
    x = draw.grid()
    if same:
        return single(pool, [shape], [x], x)
    # A window with a border is rounded on the grid that is read, and then on the other.
    return single(pool, [shape], [x], draw.grid(x.scale * draw.scale(0, 2)), draw.relu())


def resize(draw, same=False):
    x, shape = draw.grid(), draw.image()
    factors = draw.rng.choice([1, 2, 4] if draw.bits == 16 else [1, 2, 3, 5], 2)
    operation = op.Resize((int(shape[0] * factors[0]), int(shape[1] * factors[1])))
    y = x if same else draw.grid(x.scale * draw.scale(0, 2))
    return single(operation, [shape], [x], y, None if same else draw.relu())


def moved(draw, make):
    """An operation that moves integers."""
    shape = draw.image()
    return single(make(draw.rng, shape), [shape], [draw.grid()])


def concatenate(draw):
    shape, x, axis = draw.image(), draw.grid(), int(draw.rng.integers(1, 4))
    other = tuple(3 if i == axis else n for i, n in enumerate(shape, 1))
    return single(op.Concatenate(axis), [shape, other], [x, x])


def _slice(rng, shape):
    starts = tuple(int(rng.integers(full)) for full in shape)
    steps = tuple(int(n) for n in rng.integers(1, 3, 3))
    parts = zip(starts, steps, shape, strict=True)
    return op.Slice(starts, tuple((n - 1 - a) // step + 1 for a, step, n in parts), steps)


_MOVES = {
    "max pool": lambda draw: single(*_listed(_pool(draw, op.MaxPool)), [draw.grid()]),
    "global max": lambda draw: moved(draw, lambda rng, shape: op.GlobalPool("max")),
    "pad": lambda draw: moved(
        draw, lambda rng, shape: op.Pad(tuple(int(n) for n in rng.integers(0, 3, 4)))
    ),
    "reshape": lambda draw: moved(
        draw, lambda rng, shape: op.Reshape((shape[2], shape[0] * shape[1]))
    ),
    "transpose": lambda draw: moved(
        draw,
        lambda rng, shape: op.Transpose(tuple(int(n) + 1 for n in rng.permutation(3))),
    ),
    "repeat": lambda draw: moved(
        draw, lambda rng, shape: op.Repeat(int(rng.integers(1, 3)), int(rng.integers(2, 4)))
    ),
    "slice": lambda draw: moved(draw, _slice),
    "concatenate": concatenate,
}


def _listed(pair):
    operation, shape = pair
    return operation, [shape]


@attrs.frozen(eq=False)
class Case:
    """A kind of operations.

    Args:
        build: draws a graph of one.
        bits: of activations. Default 8.
        weights: the type of weights. Default ``"int8"``.
    """

    build: Callable[[Draw], object]
    bits: int = 8
    weights: str = "int8"

    @property
    def settings(self):
        return {"activations": f"int{self.bits}", "weights": self.weights}

    def graph(self, rng):
        return self.build(Draw(rng, self.bits, 7 if self.weights == "int4" else 127))


PRODUCTS = {
    "dense": dense,
    "convolution": convolution,
    "grouped convolution": lambda draw: convolution(draw, "some"),
    "depthwise convolution": lambda draw: convolution(draw, "each"),
}
_MERGES = {
    name: lambda draw, name=name: merge(draw, name)
    for name in ("add", "subtract", "multiply", "maximum", "minimum")
}
_SEVERAL = {
    "sum of several": lambda draw: several(draw, "add"),
    "average": lambda draw: several(draw, "average"),
    "sum of several, same grid": lambda draw: several(draw, "add", same=True),
    "average, same grid": lambda draw: several(draw, "average", same=True),
}
_SAME = {
    "mean": lambda draw: on_floats(draw, op.GlobalPool("average"), fuses=False),
    "average pool": average_pool,
    "average pool, same grid": lambda draw: average_pool(draw, same=True),
    "affine": affine,
    "another grid": lambda draw: on_floats(draw, op.Affine()),
    "resize": resize,
    "resize, same grid": lambda draw: resize(draw, same=True),
}
_FUNCTIONS = {
    "sigmoid": lambda draw: function(draw, "sigmoid", 2.0**-8, -128),
    "tanh": lambda draw: function(draw, "tanh", 2.0**-7),
    "softmax": lambda draw: function(draw, "softmax", 2.0**-8, -128),
    "softmax, another grid": lambda draw: function(draw, "softmax", 2.0**-7, -100),
    "gelu by a table": lambda draw: function(draw, "gelu"),
}
_ALL = {**PRODUCTS, **_MERGES, **_SEVERAL, **_SAME, **_MOVES}
CASES = {name: Case(build) for name, build in {**_ALL, **_FUNCTIONS}.items()}
CASES |= {f"{name}, int4": Case(build, 8, "int4") for name, build in PRODUCTS.items()}
CASES |= {f"{name}, int16": Case(build, 16) for name, build in _ALL.items()}
CASES["dense, int16 and int4"] = Case(dense, 16, "int4")
