"""Hypothesis strategies of numbers, tensors, identifiers, models and rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qframe.registry.configurable import missing_arguments
from qframe.registry.discovery import registry
from qframe.testing.models import inputs, models
from qframe.testing.rules import fitting_rules, rules
from qframe.testing.subjects import SHAPES

__all__ = [
    "SHAPES",
    "fitting_rules",
    "identifiers",
    "inputs",
    "models",
    "numbers",
    "rules",
    "tensors",
]


def numbers(
    dtype: str = "float32", kinks: Iterable[float] = (), magnitude: float | None = None
) -> st.SearchStrategy[float]:
    """Finite numbers: kinks, zeros, numbers near them, huge and tiny ones; none subnormal.

    Args:
        dtype: ``"float16"``, ``"float32"`` or ``"float64"``. Default float32.
        kinks: numbers to draw often.
        magnitude: the largest magnitude; by default that of the dtype.
    """
    width: Any = int(dtype.removeprefix("float"))
    low, high = (None, None) if magnitude is None else (-magnitude, magnitude)
    special = [0.0, -0.0, 1.0, -1.0, *kinks]
    return st.one_of(
        st.sampled_from([x for x in special if magnitude is None or abs(x) <= magnitude]),
        st.floats(-3, 3, width=width, allow_subnormal=False),
        st.floats(
            low,
            high,
            width=width,
            allow_nan=False,
            allow_infinity=False,
            allow_subnormal=False,
        ),
    )


def tensors(
    dtype: str = "float32",
    kinks: Iterable[float] = (),
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    magnitude: float | None = None,
) -> st.SearchStrategy[Any]:
    """NumPy arrays of `numbers`, of irregular shapes."""
    return hnp.arrays(
        dtype, st.sampled_from(list(shapes)), elements=numbers(dtype, kinks, magnitude)
    )


def identifiers(kind: str = "quantizer") -> st.SearchStrategy[str]:
    """Identifiers and aliases of the installed components that require no arguments."""
    names = [
        f"{component.namespace}:{name}"
        for component in registry.components(kind)
        if not missing_arguments(registry.load(component))
        for name in component.names
    ]
    return st.sampled_from(names)
