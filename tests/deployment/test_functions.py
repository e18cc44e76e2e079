"""Operations in NumPy against formulas, number by number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.values import Value
from qframe.errors import ArgumentError, DataError

pytestmark = pytest.mark.pure
F = np.float32


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "hard_silu": lambda x: x * min(max(x / 6 + 0.5, 0), 1),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "square": lambda x: x * x,
    "absolute": abs,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_function_is_its_formula(name):
    x = np.concatenate(
        [np.linspace(-9, 9, 4001), np.random.default_rng(0).normal(size=999)]
    )
    found = run(op.Activation(function=name), x.astype(F))
    expected = [FORMULAS[name](float(number)) for number in x.astype(F)]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_functions_of_what_is_not_finite():
    x = np.array([np.inf, np.nan, -np.inf], F)
    with np.errstate(invalid="ignore"):
        for name in ("gelu", "gelu_tanh", "mish"):
            found = run(op.Activation(function=name), x)
            assert found[0] == np.inf
            assert np.isnan(found[1])


@given(st.data())
@settings(max_examples=60)
def test_slices_transpositions_and_repetitions_are_those_of_numpy(data):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    x = np.arange(2 * math.prod(shape), dtype=F).reshape(2, *shape)
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    steps = [data.draw(st.integers(1, 3)) for _ in shape]
    pairs = zip(starts, steps, shape, strict=True)
    chosen = [range(a, n, step) for a, step, n in pairs]
    order = data.draw(st.permutations(range(1, len(shape) + 1)))
    axis = data.draw(st.integers(1, len(shape)))
    cut = op.Slice(tuple(starts), tuple(map(len, chosen)), tuple(steps))
    turned, repeated = op.Transpose(tuple(order)), op.Repeat(axis, 3)
    for operation, expected in (
        (cut, x[np.ix_(range(2), *chosen)]),
        (turned, np.transpose(x, (0, *order))),
        (repeated, x[(*[slice(None)] * axis, np.arange(3 * shape[axis - 1]) // 3)]),
    ):
        np.testing.assert_array_equal(run(operation, x), expected)
        assert operation.infer(Value(tuple(shape))).shape == expected.shape[1:]


@pytest.mark.parametrize(
    "operation",
    [
        op.Slice((0, 0), (3, 5), (1, 1)),
        op.Slice((0,), (3,), (1,)),
        op.Slice((0, 0), (2, 3), (3, 1)),
        op.Transpose((1, 1)),
        op.Transpose((1, 2, 3)),
        op.Repeat(3, 2),
        op.Normalize((3,), 0.1),
        op.Normalize((1, 1), 0.1),
        op.Normalize((1,), -1.0),
        op.Resize((2, 2)),
        op.Merge(function="divide"),
    ],
)
def test_what_does_not_fit_a_shape_is_an_error(operation):
    count = 3 if operation.arity is None else 1
    with pytest.raises(DataError):
        operation.infer(*[Value((3, 4))] * count)


@pytest.mark.parametrize("index", [-1, 3, np.nan, np.inf, 1e9])
def test_an_index_without_a_row_is_an_error(index):
    lookup = op.Lookup(kernel=np.ones((3, 2), F))
    with pytest.raises(ArgumentError, match="indices from 0 to 2"):
        run(lookup, np.array([[0, index]], F))
