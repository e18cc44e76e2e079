"""Features of the processor for which numba compiles."""

from __future__ import annotations

from llvmlite import binding
from numba.core.registry import cpu_target

# Its kind, its name and its features: numba does not load code that is for another one.
TARGET: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
IS_ARM = TARGET[0].startswith(("aarch64", "arm64"))
# How the codes of a dot product are extended, and its instruction.
_ARM_DOTS = {"dotprod": ("sext", "sdot"), "i8mm": ("zext", "usdot")}
_DOT = """
    declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)

    define i32 @dot(<16 x i8> %x, <16 x i8> %y) {{
        %codes = {extend} <16 x i8> %x to <16 x i32>
        %weights = sext <16 x i8> %y to <16 x i32>
        %products = mul <16 x i32> %codes, %weights
        %sum = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %products)
        ret i32 %sum
    }}
"""


def arm_dots(triple: str, name: str, features: str) -> set[str]:
    """The dot products of an ARM processor.

    LLVM knows them by its name, and does not list them among its features. So it is asked
    to compile one.
    """
    machine = binding.Target.from_triple(triple).create_target_machine(name, features)
    found = set()
    for feature, (extend, instruction) in _ARM_DOTS.items():
        code = machine.emit_assembly(binding.parse_assembly(_DOT.format(extend=extend)))
        if instruction in code.split():
            found.add(feature)
    return found


FEATURES = {name[1:] for name in TARGET[2].split(",") if name.startswith("+")}
if IS_ARM:
    FEATURES |= arm_dots(*TARGET)
# The floats in its longest register.
FLOATS = 16 if "avx512f" in FEATURES else 8 if "avx" in FEATURES else 4
