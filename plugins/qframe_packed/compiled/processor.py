"""What the processor can do that numba compiles for."""

from __future__ import annotations

from numba.core.registry import cpu_target


def _features() -> set[str]:
    text = cpu_target.target_context.codegen().magic_tuple()[2]
    return {word[1:] for word in text.split(",") if word.startswith("+")}


FEATURES = _features()
# The floats in its longest register.
FLOATS = 16 if "avx512f" in FEATURES else 8 if "avx" in FEATURES else 4
