"""Methods of calibration, against a brute force over all steps."""

import numpy as np
import pytest

import qframe as qf
from qframe.passes.ranges import METHODS, InputStatistics

RANDOM = np.random.default_rng(0)
COUNT = 600
# Of each kind one column, so that all are searched by channel.
NUMBERS = {
    "normal": RANDOM.normal(size=COUNT),
    "heavy tails": RANDOM.standard_t(2, size=COUNT),
    "one outlier": np.append(RANDOM.normal(size=COUNT - 1), 50.0),
    "an outlier below": np.append(np.abs(RANDOM.normal(size=COUNT - 1)), -20.0),
    "after a ReLU": np.maximum(RANDOM.normal(size=COUNT), 0),
    "far from 0": RANDOM.normal(-6, 0.5, size=COUNT),
    "five numbers": RANDOM.choice([-1.0, 0.37, 0.41, 2.2, 3.0], COUNT),
    "pixels": (RANDOM.integers(0, 256, COUNT) - 128) / 64,
}


def grids_of(method, columns, bits, symmetric):
    """The grids of the ranges of a method: the scale and the zero point."""
    x = np.stack(columns, axis=1)
    quantizer = qf.quantizers.Integer(bits=bits, symmetric=symmetric, gather="widest")
    seen = InputStatistics(x.min(0)[None], x.max(0)[None], [0], x)
    low, high = METHODS[method]()(seen, quantizer.grid_of_range)
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if symmetric:
        return np.maximum(-low, high) / most, np.zeros_like(low)
    scale = (high - low) / (most - least)
    return scale, np.rint(least - low / scale)


def candidates(x, bits, symmetric):
    """Steps of all sizes, with eight zero points from one end of the grid to the other."""
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    zeros = [0]
    if not symmetric:
        zeros = np.unique(np.linspace(least, most, 8).astype(int))
    scales = np.geomspace(0.01, 1.2, 80) * np.abs(x).max() / most
    return [(scale, zero) for scale in scales for zero in zeros]


def error(x, scale, zero, bits):
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    steps = np.clip(np.rint(x / scale), least - zero, most - zero)
    return np.square(steps * scale - x).mean()


@pytest.mark.pure
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_mse_is_as_small_as_by_brute_force(bits, symmetric):
    grids = zip(*grids_of("mse", [*NUMBERS.values()], bits, symmetric), strict=True)
    for (name, x), grid in zip(NUMBERS.items(), grids, strict=True):
        best = min(error(x, *each, bits) for each in candidates(x, bits, symmetric))
        assert error(x, *grid, bits) <= 1.05 * best + 1e-12, name


def divergence(x, scale, zero, bits):
    """By hand, of 2048 bins between the ends of the grid."""
    least, most = (end - zero for end in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    ends = least * scale, most * scale
    counts = np.histogram(np.clip(x, *ends), 2048, ends)[0]
    inside = np.histogram(x[(x >= ends[0]) & (x <= ends[1])], 2048, ends)[0]
    q = np.zeros(2048)
    for part in np.split(np.arange(2048), 2**bits):
        filled = counts[part] > 0
        q[part[filled]] = inside[part].sum() / max(filled.sum(), 1)
    p, q = counts / counts.sum(), (q + 1e-12) / (q + 1e-12).sum()
    return (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()


@pytest.mark.pure
@pytest.mark.parametrize("symmetric", [True, False])
def test_entropy_is_as_small_as_by_brute_force(symmetric):
    x = NUMBERS["heavy tails"]
    ((scale,), (zero,)) = grids_of("entropy", [x], 3, symmetric)
    tried = candidates(x, 3, symmetric)[:: 2 if symmetric else 11]
    best = min(divergence(x, *each, 3) for each in tried)
    assert divergence(x, scale, zero, 3) <= 1.05 * best


@pytest.mark.pure
def test_percentile_of_rare_numbers_is_not_a_point():
    x = np.zeros((10**5, 2))
    x[7, 0], x[:, 1] = 5.0, np.linspace(0, 1, 10**5)
    seen = InputStatistics(x.min(0)[None], x.max(0)[None], [0], x)
    low, high = METHODS["percentile"](percentile=99)(seen, None)
    np.testing.assert_allclose([low, high], [[0, 0.01], [5, 0.99]], atol=1e-9)
