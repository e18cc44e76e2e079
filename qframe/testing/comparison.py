"""Comparison of arrays, with the first difference in the error."""

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
    """Run `body` on tensors with the kinks of a quantizer and other numbers.

    An elementwise quantizer gets all numbers in one tensor, and small tensors that show
    that the result depends neither on the shape nor on other elements. Other quantizers
    get several drawn tensors.
    """
    if subject.elementwise:
        for x in (subject.numbers, *subject.small_tensors()):
            body(x)
        return
    shapes = (STATE_SHAPE,) if subject.stateful else strategies.SHAPES
    # A statistic of the tensor may overflow although its numbers do not.
    magnitude = None if subject.traits.elementwise else 2.0**20
    tensors = strategies.tensors("float32", subject.kinks, shapes, magnitude)

    @settings(
        max_examples=examples,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        # Without shrinking, which takes long: the error names the number.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    @given(x=tensors)
    @example(subject.tensor_of_kinks(magnitude))
    @example(subject.batch())
    @example(np.linspace(-8, 8, 52, dtype="float32").reshape(STATE_SHAPE))
    def run(x: Array) -> None:
        body(x)

    run()


def require_equal(
    actual: Any,
    expected: Any,
    inputs: Any,
    message: str,
    rtol: float = 0.0,
    atol: float = 0.0,
    alternatives: tuple[Any, ...] = (),
) -> None:
    """Raise if arrays differ, and name the first input for which they do.

    Args:
        actual: an array.
        expected: the correct values.
        inputs: the array that `actual` was computed from.
        message: the start of the error, which names the computed values.
        rtol: the relative tolerance.
        atol: the absolute tolerance.
        alternatives: other correct values, as on the other side of a tie.
    """
    actual, inputs = np.asarray(actual), np.asarray(inputs)
    expected = np.asarray(expected)
    require(
        actual.shape == expected.shape,
        f"{message}: found the shape {actual.shape}, expected {expected.shape}.",
    )
    equal = np.zeros(actual.shape, bool)
    for correct in (expected, *alternatives):
        with np.errstate(over="ignore", invalid="ignore"):
            equal |= np.isclose(actual, correct, rtol=rtol, atol=atol, equal_nan=True)
    if not equal.all():
        index = tuple(int(i) for i in np.argwhere(~equal)[0])
        at = f" at x = {inputs[index]!r}" if inputs.shape == actual.shape else ""
        require(
            False,
            f"{message}:{at} found {actual[index]!r}, expected {expected[index]!r} "
            f"({int((~equal).sum())} of {equal.size} numbers differ).",
        )


def neighbours(x: Array) -> tuple[Array, Array]:
    """Both neighbours of each number, at a distance of about 1e-6."""
    distance = np.abs(x) * x.dtype.type(2.0**-20) + x.dtype.type(1e-6)
    with np.errstate(over="ignore"):
        return x - distance, x + distance
