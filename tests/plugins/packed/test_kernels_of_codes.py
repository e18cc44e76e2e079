"""Kernels that move codes: pools and concatenations, as the reference computes them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qframe.deployment.graph.operations import Concatenate, MaxPool
from qframe.deployment.graph.reference import run as reference
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.joining import Join
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Memory
from qframe_packed.compiled.pooling_codes import PoolCodes
from qframe_packed.compiled.program import Program

pytestmark = pytest.mark.pure


def run(samples, *kernels):
    memory = Memory({}, 0, samples)
    Program(memory, [*kernels])(samples)


@given(
    channels=st.integers(1, 150),
    sizes=st.tuples(*[st.integers(1, 7)] * 2),
    pool=st.tuples(*[st.integers(1, 3)] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    out_pads=st.tuples(*[st.integers(0, 2)] * 4),
    directed=st.booleans(),
    seed=st.integers(0, 2**16),
)
@example(150, (6, 7), (2, 2), (2, 2), (0, 0, 0, 0), (0, 0, 0, 0), False, 0)
@example(70, (6, 7), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1, 1, 1), True, 0)
def test_max_pool(channels, sizes, pool, strides, pads, out_pads, directed, seed):
    rng = np.random.default_rng(seed)
    pads = tuple(min(pad, pool[i // 2] - 1) for i, pad in enumerate(pads))
    shape = [max(*pair) for pair in zip(sizes, pool, strict=True)]
    x = rng.integers(0, 256, (2, *shape, channels)).astype(np.uint8)
    direction = rng.choice([-1, 1], channels).astype(np.int8) if directed else None
    operation = MaxPool(pool=pool, strides=strides, pads=pads, direction=direction)
    expected = reference(operation, x.astype(np.int32))
    image = Image.of_codes(expected.shape[1:], out_pads)
    out = np.full((2, image.rows, image.columns, channels), 9, np.uint8)
    inside = out.copy()
    rows, columns = (
        slice(n, n + m)
        for n, m in zip((image.top, image.left), expected.shape[1:3], strict=True)
    )
    inside[:, rows, columns] = expected
    # The kernel reads whole registers.
    source = np.append(x.reshape(-1), np.zeros(64, np.uint8))
    run(2, PoolCodes.of(source, out, image, operation, Value(x.shape[1:])))
    np.testing.assert_array_equal(out, inside)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_join(axis, dtype):
    rng = np.random.default_rng(0)
    shapes = [[2, 3, 5], [2, 3, 5], [2, 3, 5]]
    for shape, size in zip(shapes, (1, 90, 7), strict=True):
        shape[axis - 1] = size
    parts = [rng.integers(0, 256, (3, *shape)).astype(dtype) for shape in shapes]
    expected = reference(Concatenate(axis=axis), *parts)
    out = np.zeros_like(expected)
    values = [Value(tuple(shape)) for shape in shapes]
    run(3, *Join.of(parts, out, axis, values, out.itemsize))
    np.testing.assert_array_equal(out, expected)
