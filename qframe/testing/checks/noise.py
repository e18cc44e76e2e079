"""Random numbers: drawn in training only, seeded, and unbiased."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.quantizers.differentiation import Array, to_numpy, to_tensor
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.values import nearest, value
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import QuantizerSubject

_DRAWS = 4096


def _draw(subject: QuantizerSubject, quantizer: Any, x: Array) -> Array:
    return to_numpy(subject.on_axis(quantizer)(to_tensor(x), training=True))


def _spread(count: int) -> Array:
    """Numbers between the levels of most grids, in one channel."""
    return np.linspace(-1.37, 1.29, count, dtype="float32")[:, None]


def _deviation(levels: Any, mean: float) -> float:
    """The standard deviation of draws of both neighbouring levels with this mean."""
    above = int(np.clip(np.searchsorted(levels, mean), 1, len(levels) - 1))
    low, high = levels[above - 1], levels[above]
    return float(np.sqrt(max((high - mean) * (mean - low), 0)))


@of_quantizers(when=lambda subject: subject.traits.stochastic)
def draws(subject: QuantizerSubject) -> None:
    """Training draws new values in each call; inference draws none."""
    quantizer, x = subject.fresh(), _spread(512)
    first, second = (_draw(subject, quantizer, x) for _ in range(2))
    require((first != second).any(), "training twice gave the same values.")
    call = subject.on_axis(quantizer)
    require_equal(value(call, x), value(call, x), x, "inference twice")


@of_quantizers(when=lambda subject: subject.traits.stochastic)
def seeded(subject: QuantizerSubject) -> None:
    """Equal seeds give equal draws, different seeds different ones."""
    x = _spread(512)
    one, same, other = (subject.fresh(seed=seed) for seed in (7, 7, 8))
    for _ in range(2):
        drawn = _draw(subject, one, x)
        require_equal(_draw(subject, same, x), drawn, x, "the same seed")
        require((_draw(subject, other, x) != drawn).any(), "seeds 7 and 8 draw the same.")


@of_quantizers(when=lambda subject: subject.traits.stochastic)
def unbiased(subject: QuantizerSubject) -> None:
    """The mean of many draws is the expectation that the traits declare."""
    quantizer, traits = subject.fresh(), subject.traits
    axis = (-1,) if traits.channelwise else ()
    for x in _spread(24).ravel():
        same = np.full((_DRAWS, 1), x, "float32")
        drawn = _draw(subject, quantizer, same).astype("float64")
        if traits.expectation is not None:
            expected = float(np.ravel(traits.expectation(same, *axis))[0])
        else:
            expected = float(np.clip(x, *(traits.range or (-np.inf, np.inf))))
        # Five standard errors, and the rounding of float32. The error is at least that of
        # unbiased draws, since a rare level may not have been drawn.
        error = float(drawn.std())
        if traits.levels and len(traits.levels) > 1 and not traits.scaled:
            error = max(error, _deviation(traits.levels, expected))
        allowed = 5 * error / np.sqrt(_DRAWS) + 1e-4 * max(1, abs(expected))
        require(
            abs(drawn.mean() - expected) <= allowed,
            f"{_DRAWS} draws at x = {x:.4f} average {drawn.mean():.4f}; the expectation is "
            f"{expected:.4f} (allowed: {allowed:.4f}).",
        )


@of_quantizers(
    when=lambda s: s.traits.stochastic and s.traits.levels and not s.traits.scaled
)
def draws_levels(subject: QuantizerSubject) -> None:
    """Draws in training are on the declared levels too."""
    levels = np.asarray(subject.traits.levels)
    x = _spread(512)
    drawn = _draw(subject, subject.fresh(), x)
    expected = nearest(levels, drawn)
    require_equal(drawn, expected, x, "a draw between the levels", 1e-5, 1e-6)
