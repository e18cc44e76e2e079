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
        # Powers of two: nothing is rounded, whatever the size.
        both = gradient(subject, x, 2 * first - 4096 * second)
        one, other = gradient(subject, x, first), gradient(subject, x, second)
        size = np.abs(one).max(initial=0) + 4096 * np.abs(other).max(initial=0)
        message = "the gradient for 2 a - 4096 b against 2 g(a) - 4096 g(b)"
        require_equal(both, 2 * one - 4096 * other, x, message, 1e-4, 1e-5 * size + 1e-30)

    on_tensors(subject, scales)


@of_quantizers()
def finite(subject: QuantizerSubject) -> None:
    """The gradient of finite numbers is finite; that of a tensor of zeros too."""

    def no_nan(x: Array) -> None:
        found = gradient(subject, x)
        require(
            np.isfinite(found).all(),
            f"the gradient at x = {x[~np.isfinite(found)][:1]} is "
            f"{found[~np.isfinite(found)][:1]}.",
        )

    no_nan(np.zeros(STATE_SHAPE, "float32"))
    on_tensors(subject, no_nan)


@of_quantizers(when=lambda s: s.traits.elementwise)
def finite_beside_nan(subject: QuantizerSubject) -> None:
    """NaN and infinities leave the gradient of the numbers beside them as it is."""
    x = subject.batch()
    expected = gradient(subject, x)
    kept = np.ones_like(x, bool)
    for where, special in (((3, 1), np.nan), ((2, 0), np.inf), ((5, 2), -np.inf)):
        x[where], kept[where] = special, False
    found = gradient(subject, x)
    message = "beside NaN and infinity the gradient changed"
    require_equal(found[kept], expected[kept], x[kept], message, 1e-6, 1e-6)


@of_quantizers(when=lambda subject: subject.traits.support)
def support(subject: QuantizerSubject) -> None:
    """The gradient is zero outside of the support, and somewhere inside it is not."""
    low, high = subject.traits.support

    def silent(x: Array) -> None:
        outside = (x < np.float32(low)) | (x > np.float32(high))
        found = gradient(subject, x)[outside]
        require_equal(found, np.zeros_like(found), x[outside], "outside of the support")

    on_tensors(subject, silent)
    inside = np.linspace(max(low, -10.0), min(high, 10.0), 52, dtype="float32")
    inside = inside.reshape(STATE_SHAPE)
    require(gradient(subject, inside).any(), "the gradient is zero in the support too.")


@of_quantizers()
def alive(subject: QuantizerSubject) -> None:
    """Somewhere the gradient is not zero: what it quantizes can learn."""
    require(gradient(subject, subject.batch()).any(), "the gradient is zero everywhere.")
