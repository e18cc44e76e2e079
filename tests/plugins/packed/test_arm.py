"""ARM processors: what LLVM makes of products for them, on a machine of any kind.

`tests/arm/emulated.py` runs the kernels.
"""

import numpy as np
import pytest
from llvmlite import binding, ir

from qframe_packed.compiled import atomics
from qframe_packed.compiled.dots import ArmDot, SignedBytes, SignedDot
from qframe_packed.compiled.kinds import Count, Floats
from qframe_packed.compiled.processor import arm_dots
from qframe_packed.compiled.vectors import at

pytestmark = pytest.mark.pure

TRIPLE = "aarch64-unknown-linux-gnu"
KINDS = {
    "bits": (Count(16, np.uint8, 8, 31), "", ["cnt"]),
    "codes": (SignedBytes(4, np.uint32, 32), "", ["smull", "saddlp", "addp"]),
    "codes, dotprod": (SignedDot(4, np.uint32, 32), "+dotprod", ["sdot"]),
    "codes, i8mm": (ArmDot(4, np.uint32, 32), "+i8mm", ["usdot"]),
    "floats": (Floats(4, np.float32, 32), "", ["fmla"]),
}


@pytest.fixture(scope="module", autouse=True)
def target():
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        return binding.Target.from_triple(TRIPLE)
    except RuntimeError:
        pytest.skip("this LLVM compiles for no ARM processor")


@pytest.mark.parametrize(
    ("name", "features", "found"),
    [
        ("cortex-a72", "+neon", set()),
        ("neoverse-n1", "+neon,-sve", {"dotprod"}),
        ("neoverse-n1", "+neon,-dotprod", set()),
        ("apple-m1", "", {"dotprod"}),
        ("neoverse-v1", "+neon,+sve", {"dotprod", "i8mm"}),
        ("generic", "", set()),
        ("generic", "+dotprod,+i8mm", {"dotprod", "i8mm"}),
    ],
)
def test_dot_products_are_known_by_name(name, features, found):
    assert arm_dots(TRIPLE, name, features) == found


@pytest.mark.parametrize("case", KINDS)
def test_a_product_has_the_instructions(case, target):
    kind, features, instructions = KINDS[case]
    module = ir.Module()
    kinds = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 3)
    function = ir.Function(module, kinds, "multiply")
    b = ir.IRBuilder(function.append_basic_block())
    image, panel, sums = function.args
    bits = 8 * np.dtype(kind.item).itemsize
    item = ir.FloatType() if kind.item is np.float32 else ir.IntType(bits)
    factor = kind.factor(b, b.load(at(b, image, 0, item)))
    (weights,) = kind.weights(b, b.load(at(b, panel, 0, kind.vector)))
    place = at(b, sums, 0, kind.vector)
    b.store(kind.add(b, b.load(place), factor, weights), place)
    b.ret_void()
    machine = target.create_target_machine("generic", features)
    code = machine.emit_assembly(binding.parse_assembly(str(module))).split()
    assert set(instructions) <= set(code)


def test_a_pause_has_an_instruction(target, monkeypatch):
    monkeypatch.setattr(atomics, "IS_ARM", True)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "pause")
    b = ir.IRBuilder(function.append_basic_block())
    atomics.emit_pause(b)
    b.ret_void()
    machine = target.create_target_machine("generic")
    assert "isb" in machine.emit_assembly(binding.parse_assembly(str(module))).split()
