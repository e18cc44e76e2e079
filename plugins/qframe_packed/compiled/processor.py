"""Features of the processor for which numba compiles."""

from __future__ import annotations

from numba.core.registry import cpu_target

# Its kind, its name and its features: numba does not load code that is for another one.
TARGET: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
FEATURES = {name[1:] for name in TARGET[2].split(",") if name.startswith("+")}
# The floats in its longest register.
FLOATS = 16 if "avx512f" in FEATURES else 8 if "avx" in FEATURES else 4
