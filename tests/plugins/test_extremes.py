"""Every quantizer of ours, given the largest numbers and NaN."""

import numpy as np
import pytest

import qframe as qf
from qframe.quantizers.differentiation import value_and_gradient
from qframe.registry.discovery import registry

ARGUMENTS = {
    "noop": "(precision=1)",
    "minifloat": "(exponent_bits=4, mantissa_bits=3)",
    "rounded": "(quantizer='integer')",
    "corrected": "(quantizer=None)",
}
NAMES = [
    f"{c.namespace}:{c.name}{ARGUMENTS.get(c.name, '')}"
    for c in registry.components("quantizer")
    if not c.namespace.startswith("local")
]
# The sum of these is infinite in float32, their mean is not.
LARGE = np.random.default_rng(0).uniform(-1e38, 1e38, (32, 32)).astype("float32")


def run(quantizer, x):
    return value_and_gradient(quantizer, x, np.ones_like(x))


@pytest.mark.parametrize("name", NAMES)
def test_large_numbers_stay_numbers(name):
    value, gradient = run(qf.quantizers.get(name), LARGE)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan_and_has_the_gradient_of_the_formula(name):
    quantizer = qf.quantizers.get(name)
    traits = quantizer.traits
    if traits.updates or not traits.elementwise or traits.surrogate is None:
        pytest.skip("NaN reaches what the other numbers share")
    x = np.float32([0.3, np.nan, -0.7])
    value, gradient = run(quantizer, x)
    assert np.isnan(value[1])
    np.testing.assert_array_equal(gradient[1], traits.surrogate(x)[1])
    rest = np.float32([0.3, -0.7])
    np.testing.assert_array_equal(gradient[[0, 2]], run(quantizer, rest)[1])
