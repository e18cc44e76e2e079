"""Other processors: numba is told that it is on one, in a process of its own."""

import json
import os
import platform
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from packed_graphs import chain, computed, sign
from qframe.deployment.graph import operations as op
from qframe_packed import files
from qframe_packed.packing import PackedTensor

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="these are x86 processors"
    ),
]

# A name that LLVM knows, what it can do, and the registers of bits, of codes and of floats:
# their kind, their lanes, and instructions that use them.
SSE = "+sse,+sse2,+cx8,+fxsr,+mmx"
AVX2 = f"{SSE},+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma"
AVX512 = f"{AVX2},+evex512,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd"
MACHINES = {
    "none": (
        *("x86-64", SSE),
        {("Popcount", 2), ("Pairs", 4), ("Floats", 4)},
        ["paddq", "pmaddwd", "addps"],
    ),
    "ssse3": (
        *("core2", f"{SSE},+sse3,+ssse3"),
        {("Lookup", 16), ("Pairs", 4), ("BytePairs", 4), ("Floats", 4)},
        ["pshufb", "paddb", "pmaddwd", "pmaddubsw"],
    ),
    "avx2": (
        *("haswell", AVX2),
        {("Lookup", 32), ("Pairs", 8), ("BytePairs", 8), ("Floats", 8)},
        ["vpshufb %ymm", "vpmaddwd %ymm", "vpmaddubsw %ymm", "vfmadd %ymm"],
    ),
    "avxvnni": (
        *("alderlake", f"{AVX2},+avxvnni"),
        {("Lookup", 32), ("Dot", 8), ("Packed", 8), ("Floats", 8)},
        ["vpshufb %ymm", "vpdpbusd %ymm", "vfmadd %ymm"],
    ),
    "avx512bw": (
        *("skylake-avx512", AVX512),
        {("Lookup", 64), ("Pairs", 16), ("BytePairs", 16), ("Floats", 16)},
        ["vpshufb %zmm", "vpmaddwd %zmm", "vpmaddubsw %zmm", "vfmadd %zmm"],
    ),
    "avx512vpopcntdq": (
        *("cannonlake", f"{AVX512},+avx512vpopcntdq"),
        {("Popcount", 8), ("Pairs", 16), ("BytePairs", 16), ("Floats", 16)},
        ["vpopcntq %zmm", "vpmaddwd %zmm", "vfmadd %zmm"],
    ),
    "avx512vnni": (
        *("icelake-server", f"{AVX512},+avx512vpopcntdq,+avx512vnni"),
        {("Popcount", 8), ("Dot", 16), ("Packed", 16), ("Floats", 16)},
        ["vpopcntq %zmm", "vpdpbusd %zmm", "vfmadd %zmm"],
    ),
}
# Code for a machine that another one can run, whose instructions are named otherwise.
ELSEWHERE = {
    "avxvnni": {"avx512vnni", "avx512vl"},
    # LLVM splits registers, and not the instructions of 512 bits that round to codes.
    "avx512vpopcntdq": {"avx512bw"},
}

RNG = np.random.default_rng(0)
LEVELS = np.arange(1, 6, dtype=np.float32) / 2


def integers(*shape, of=(-1, 1)):
    return PackedTensor.of(RNG.choice(of, shape))


GRAPHS = (
    chain(
        (6, 5, 19),
        sign(),
        op.Conv2D(kernel=integers(70, 3, 3, 19), pads=(1, 1, 1, 1)),
        op.MaxPool(),
        sign(thresholds=np.arange(-20, 50, dtype=np.int32)[None]),
        op.Reshape(shape=(420,)),
        op.Dense(kernel=integers(9, 420)),
    ),
    chain(
        (6, 5, 70),
        sign(thresholds=LEVELS, low=-3, step=1),
        op.Conv2D(kernel=integers(5, 3, 3, 70, of=(-3, 0, 3)), strides=(2, 1)),
        op.Affine(scale=np.full(5, 0.5, np.float32)),
        op.Dense(kernel=integers(300, 5, of=range(-7, 8))),
        op.Activation(function="relu"),
    ),
    chain(
        (7, 5, 3),
        op.Round(low=-100, high=155, factor=30.0),
        op.Conv2D(kernel=integers(70, 3, 3, 3, of=range(-128, 128)), pads=(1, 0, 2, 1)),
        op.Affine(scale=np.full(70, 1e-3, np.float32)),
        op.Round(low=0, high=255),
        op.Dense(kernel=integers(33, 70, of=range(-8, 8))),
    ),
    chain(
        (70,),
        op.Round(low=-100, high=155, factor=30.0),
        op.Dense(kernel=integers(33, 70, of=range(-8, 8))),
        op.Affine(scale=np.full(33, 1e-2, np.float32)),
        op.Round(low=0, high=255),
        op.Dense(kernel=integers(9, 33)),
    ),
    # The largest sums: all codes are 0 or 255.
    chain(
        (70,),
        op.Round(low=0, high=255, factor=1e3),
        op.Dense(kernel=PackedTensor.of(np.repeat([[-128], [127], [1]], 70, axis=1))),
    ),
    # The largest sums of two that 16 bits hold, 255 * 128, and the next ones.
    *(
        chain(
            (70,),
            op.Round(low=0, high=255, factor=1e3),
            op.Dense(kernel=PackedTensor.of(np.tile([[-64 - more], [64]], (1, 70)))),
        )
        for more in (0, 1)
    ),
)
INPUTS = [
    (RNG.integers(-6, 7, (5, *graph.inputs[0])) / 2).astype("float32") for graph in GRAPHS
]

SCRIPT = """
    import json, sys
    import numba
    import numpy as np
    import qframe as qf
    from numba.core.registry import cpu_target

    pretended, *names = sys.argv[1:]
    codegen = cpu_target.target_context.codegen()
    if pretended:
        codegen.magic_tuple = lambda: ("", "", pretended)
    from qframe_packed.compiled.tiles import TILES

    vars(codegen).pop("magic_tuple", None)

    code = "".join(t.function.compiled._library.get_asm_str() for t in TILES)
    equal = []
    for name in names:
        runtime = qf.packed.load(name + ".safetensors", engine="numba")
        found = runtime.predict(np.load(name + "-x.npy"))
        equal.append(np.array_equal(found, np.load(name + "-y.npy")))
    print(json.dumps([[[type(t.kind).__name__, t.kind.lanes] for t in TILES], code, equal]))
"""


def run_as(folder, names, pretended="", **environment):
    """What the script prints where numba finds this environment."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), pretended, *map(str, names)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "NUMBA_CACHE_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def features_here():
    from llvmlite import binding

    return {name for name, present in binding.get_host_cpu_features().items() if present}


@pytest.mark.one_case_in(2)
@pytest.mark.parametrize("machine", MACHINES)
def test_machine(machine, tmp_path):
    """Its tiles use its instructions; where this machine has these too, all is equal."""
    name, features, registers, instructions = MACHINES[machine]
    runs = {word[1:] for word in features.split(",")} - {"evex512"} <= features_here()
    saved = []
    for index, (graph, x) in enumerate(zip(GRAPHS, INPUTS, strict=True)):
        saved.append(tmp_path / str(index))
        saved[-1].with_suffix(".safetensors").write_bytes(files.encode(graph))
        np.save(f"{saved[-1]}-x.npy", x)
        np.save(f"{saved[-1]}-y.npy", computed(graph, x)[0])
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    tiles, code, equal = run_as(tmp_path / "kept", saved if runs else (), **environment)
    assert {tuple(tile) for tile in tiles} == registers
    lines = code.splitlines()
    for instruction in instructions:
        assert any(all(word in line for word in instruction.split()) for line in lines), (
            instruction
        )
    assert all(equal)
    if runs:
        return
    if machine in ELSEWHERE and ELSEWHERE[machine] <= features_here():
        # Its tiles, of whose registers LLVM makes those that are here.
        tiles, _, equal = run_as(tmp_path / "here", saved, features)
        assert {tuple(tile) for tile in tiles} == registers
        assert equal == [True] * len(GRAPHS)
    pytest.skip("compiled for it, and not run: this machine lacks its instructions")
