"""The surrogate gradient."""

from __future__ import annotations

import numpy as np

from qframe.quantizers.differentiation import Array, value_and_gradient
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.values import compare
from qframe.testing.comparison import on_tensors, require_equal
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject


def gradient(subject: QuantizerSubject, x: Array, upstream: Array | None = None) -> Array:
    """The gradient of ``sum(upstream * q(x))``, as NumPy."""
    upstream = np.ones_like(x) if upstream is None else upstream
    return value_and_gradient(subject.call, x, upstream)[1]


@of_quantizers(when=lambda subject: subject.traits.surrogate)
def surrogate(subject: QuantizerSubject) -> None:
    """The gradient is that of the NumPy reference everywhere, kinks included."""
    function = subject.traits_of_ready.surrogate

    def agree(x: Array) -> None:
        compare(subject, gradient(subject, x), function, x, "the surrogate gradient")

    on_tensors(subject, agree)


@of_quantizers()
def linear(subject: QuantizerSubject) -> None:
    """The gradient is linear in the upstream gradient."""

    def scales(x: Array) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, *x.shape)).astype(x.dtype)
        # Factors that are powers of two do not round.
        both = gradient(subject, x, 2 * first - 4096 * second)
        one, other = gradient(subject, x, first), gradient(subject, x, second)
        size = np.abs(one).max(initial=0) + 4096 * np.abs(other).max(initial=0)
        message = "the gradient for 2 a - 4096 b against 2 g(a) - 4096 g(b)"
        require_equal(both, 2 * one - 4096 * other, x, message, 1e-4, 1e-5 * size + 1e-30)

    on_tensors(subject, scales)


@of_quantizers()
def finite(subject: QuantizerSubject) -> None:
    """The gradient of finite numbers is finite, also in a tensor of zeros."""

    def require_finite(x: Array) -> None:
        slopes = gradient(subject, x)
        broken = ~np.isfinite(slopes)
        require(
            not broken.any(),
            f"the gradient at x = {x[broken][:1]} is {slopes[broken][:1]}.",
        )

    require_finite(np.zeros(STATE_SHAPE, "float32"))
    on_tensors(subject, require_finite)


@of_quantizers(when=lambda s: s.traits.elementwise)
def finite_beside_nan(subject: QuantizerSubject) -> None:
    """NaN and infinities do not change the gradient of other numbers."""
    x = subject.batch()
    expected = gradient(subject, x)
    mask = np.ones_like(x, bool)
    for index, special in (((3, 1), np.nan), ((2, 0), np.inf), ((5, 2), -np.inf)):
        x[index], mask[index] = special, False
    slopes = gradient(subject, x)
    message = "NaN and infinity changed the gradient of other numbers"
    require_equal(slopes[mask], expected[mask], x[mask], message, 1e-6, 1e-6)


@of_quantizers(when=lambda subject: subject.traits.support)
def support(subject: QuantizerSubject) -> None:
    """The gradient is zero outside of the support, and not everywhere inside."""
    low, high = subject.traits.support

    def zero_outside(x: Array) -> None:
        outside = (x < np.float32(low)) | (x > np.float32(high))
        slopes = gradient(subject, x)[outside]
        require_equal(slopes, np.zeros_like(slopes), x[outside], "outside of the support")

    on_tensors(subject, zero_outside)
    inside = np.linspace(max(low, -10.0), min(high, 10.0), 52, dtype="float32")
    inside = inside.reshape(STATE_SHAPE)
    require(gradient(subject, inside).any(), "the gradient is zero in the support too.")


@of_quantizers()
def alive(subject: QuantizerSubject) -> None:
    """The gradient is not zero everywhere, so that quantized weights can learn."""
    require(gradient(subject, subject.batch()).any(), "the gradient is zero everywhere.")
