"""Features of the processor for which numba compiles."""

from __future__ import annotations

from numba.core.registry import cpu_target


def _features() -> set[str]:
    text = cpu_target.target_context.codegen().magic_tuple()[2]
    return {feature[1:] for feature in text.split(",") if feature.startswith("+")}


FEATURES = _features()
# The floats in its longest register.
FLOATS = 16 if "avx512f" in FEATURES else 8 if "avx" in FEATURES else 4
