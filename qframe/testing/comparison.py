"""Whether arrays agree, and where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, example, given, settings

from qframe.quantizers.differentiation import Array
from qframe.testing import strategies
from qframe.testing.check import require
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject


def on_tensors(
    subject: QuantizerSubject, body: Callable[[Array], None], examples: int = 6
) -> None:
    """Run `body` on tensors for a quantizer: its kinks and other numbers.

    One tensor has all the numbers for an elementwise quantizer, and small ones show that
    the result depends neither on the shape nor on the rest of the tensor. Others get
    several drawn tensors.
    """
    if subject.elementwise:
        for x in (subject.numbers, *subject.small_tensors()):
            body(x)
        return
    shapes = (STATE_SHAPE,) if subject.stateful else strategies.SHAPES
    # A statistic of the tensor overflows where its numbers do not.
    magnitude = None if subject.traits.elementwise else 2.0**20
    drawn = strategies.tensors("float32", subject.kinks, shapes, magnitude)

    @settings(
        max_examples=examples,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        # Without shrinking: what is raised names the number, and it would take long.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    @given(x=drawn)
    @example(subject.tensor_of_kinks(magnitude))
    @example(subject.batch())
    @example(np.linspace(-8, 8, 52, dtype="float32").reshape(STATE_SHAPE))
    def holds(x: Array) -> None:
        body(x)

    holds()


def require_equal(
    found: Any,
    expected: Any,
    inputs: Any,
    message: str,
    rtol: float = 0.0,
    atol: float = 0.0,
    or_else: tuple[Any, ...] = (),
) -> None:
    """Raise where arrays differ, with the first input for which they do.

    Args:
        found: an array.
        expected: the right values.
        inputs: the array that `found` was computed from.
        message: the start of the error, which names what was computed.
        rtol: the relative tolerance.
        atol: the absolute tolerance.
        or_else: other values that are right too, as on the far side of a tie.
    """
    found, inputs = np.asarray(found), np.asarray(inputs)
    expected = np.asarray(expected)
    require(
        found.shape == expected.shape,
        f"{message}: found the shape {found.shape}, expected {expected.shape}.",
    )
    equal = np.zeros(found.shape, bool)
    for right in (expected, *or_else):
        with np.errstate(over="ignore", invalid="ignore"):
            equal |= np.isclose(found, right, rtol=rtol, atol=atol, equal_nan=True)
    if not equal.all():
        where = tuple(int(i) for i in np.argwhere(~equal)[0])
        at = f" at x = {inputs[where]!r}" if inputs.shape == found.shape else ""
        require(
            False,
            f"{message}:{at} found {found[where]!r}, expected {expected[where]!r} "
            f"({int((~equal).sum())} of {equal.size} numbers differ).",
        )


def beside(x: Array) -> tuple[Array, Array]:
    """Both neighbours of each number, at a distance of about 1e-6."""
    distance = np.abs(x) * x.dtype.type(2.0**-20) + x.dtype.type(1e-6)
    with np.errstate(over="ignore"):
        return x - distance, x + distance
