"""Binary convolutions by their size, the machine's limit, and the memory of a run.

No Keras is needed. Run by ``tox run -e bench``; QFRAME_ROUNDS says how often each runs.
"""

import os

import attrs
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from benchmarks.timing import interleaved, seconds, show
from packed_graphs import chain, sign
from qframe.deployment.graph import operations as op
from qframe_packed.compiled.allocation import allocate
from qframe_packed.compiled.engine import Engine
from qframe_packed.compiled.tiles import BITS
from qframe_packed.compiled.vectors import integer, loop
from qframe_packed.packing import PackedTensor

ROUNDS = int(os.environ.get("QFRAME_ROUNDS", "20"))
TURN = 0.05
SIDE = 16
SUMS = 12


@intrinsic
def count(typing, times):
    """Binary products in registers alone, `SUMS` registers of them each time."""

    def codegen(context, b, signature, arguments):
        start = [ir.Constant(BITS.vector, [i + 1] * BITS.lanes) for i in range(SUMS)]
        # Nothing that LLVM could see through.
        other = ir.Constant(BITS.vector, [37 * i % 256 for i in range(BITS.lanes)])

        def body(index, *sums):
            return tuple(BITS.add(b, total, other, total) for total in sums)

        found = loop(b, integer(0), arguments[0], 1, tuple(start), body)
        total = found[0]
        for sums in found[1:]:
            total = b.xor(total, sums)
        kind = ir.IntType(BITS.lanes * BITS.vector.element.width)
        return b.trunc(b.bitcast(total, kind), ir.IntType(64))

    return types.int64(types.int64), codegen


@numba.njit
def counted(times):
    return count(times)


def limit():
    """The binary multiply-accumulates of a nanosecond, if nothing else had to be done."""
    times = 100_000
    counted(times)
    best = min(seconds(lambda: counted(times)) for _ in range(50))
    return SUMS * BITS.lanes * BITS.bits * times / best / 1e9


def convolution(channels, side=SIDE):
    """A 3x3 convolution of signs, from floats to floats."""
    kernel = np.random.default_rng(0).choice([-1, 1], (channels, 3, 3, channels))
    layer = op.Conv2D(kernel=PackedTensor.of(kernel), pads=(1, 1, 1, 1), pad=1.0)
    return Engine(chain((side, side, channels), sign(), layer))


def images(batch, channels, side=SIDE):
    shape = (batch, side, side, channels)
    return [np.random.default_rng(0).normal(size=shape).astype(np.float32)]


def shown(title, cases):
    """A table of convolutions: (channels, batch) of each."""
    engines = {channels: convolution(channels) for channels, _ in cases}
    given = {case: images(case[1], case[0]) for case in cases}
    actions = {
        case: lambda case=case: engines[case[0]].predict(given[case]) for case in cases
    }
    most = limit()
    rows = []
    for (channels, batch), time in interleaved(actions, ROUNDS, warm=1, turn=TURN).items():
        rate = 9 * SIDE**2 * channels**2 * batch / time / 1e9
        cells = 1e6 * time / batch, rate, 100 * rate / most
        rows.append([str(channels), str(batch), *(f"{cell:.0f}" for cell in cells)])
    columns = ("channels", "batch", "us an image", "MAC a ns", "% of the limit")
    show(f"{title}; the limit is {most:.0f} binary MAC a ns", columns, rows)


def test_channels():
    shown("3x3, 16x16", [(channels, 1) for channels in (64, 128, 256, 512, 1024)])


def test_batches():
    shown("3x3, 16x16", [(64, batch) for batch in (1, 4, 16, 64, 256)])


def test_memory():
    rows = []
    for channels in (64, 256, 1024):
        schedule = convolution(channels).schedule
        parts = [
            part for step in schedule.steps for part in attrs.astuple(step, recurse=False)
        ]
        sizes = (
            9 * channels**2 / 8,
            sum(part.nbytes for part in parts if isinstance(part, np.ndarray)),
            # The input and the output, as floats.
            2 * 4 * SIDE**2 * channels,
            allocate(schedule.buffers, 1)[1],
        )
        rows.append([str(channels), *(f"{size / 1024:.0f}" for size in sizes)])
    columns = ("channels", "bits of weights", "held for them", "two tensors", "room held")
    show("Memory for one sample, in KiB", columns, rows)
