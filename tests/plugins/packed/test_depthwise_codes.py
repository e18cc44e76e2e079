"""The depthwise convolution of codes, as the reference computes it."""

from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qframe.deployment.graph.operations import Conv2D
from qframe.deployment.graph.reference import run as reference
from qframe.deployment.graph.values import Grid, Value
from qframe_packed.compiled.depthwise_codes import DepthwiseCodes
from qframe_packed.compiled.direct import in_registers
from qframe_packed.compiled.epilogue import Store
from qframe_packed.compiled.finishing import Finish
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.levels import Nearest
from qframe_packed.compiled.memory import Buffer, Memory
from qframe_packed.compiled.program import Program
from qframe_packed.packing import PackedTensor

pytestmark = pytest.mark.pure
F = np.float32


@st.composite
def cases(draw):
    size = draw(st.sampled_from([(3, 3), (3, 3), (3, 3), (1, 1), (5, 5), (2, 4), (7, 1)]))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 3)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 3)]))
    reach = [(n - 1) * d for n, d in zip(size, dilation, strict=True)]
    return SimpleNamespace(
        channels=draw(st.integers(1, 150)),
        size=size,
        stride=stride,
        dilation=dilation,
        shape=[r + draw(st.integers(1, 6)) for r in reach],
        pads=[draw(st.integers(0, reach[i // 2])) for i in range(4)],
        grid=draw(
            st.sampled_from([(-128, 127, 1), (0, 255, 1), (-4, 4, 2), (-255, 255, 2)])
        ),
        out_pads=tuple(draw(st.integers(0, 2)) for _ in range(4)),
        ending=draw(st.sampled_from(["codes", "floats", "epilogue"])),
        samples=draw(st.integers(1, 2)),
        seed=draw(st.integers(0, 2**16)),
    )


def three(**arguments):
    return SimpleNamespace(
        **{
            "channels": 150,
            "size": (3, 3),
            "stride": (1, 1),
            "dilation": (1, 1),
            "shape": [7, 6],
            "pads": [1, 1, 1, 1],
            "grid": (-128, 127, 1),
            "out_pads": (1, 0, 1, 1),
            "ending": "codes",
            "samples": 2,
            "seed": 0,
            **arguments,
        }
    )


@given(cases())
@example(three())
@example(three(ending="floats"))
@example(three(ending="epilogue"))
@example(three(stride=(2, 2)))
@example(three(stride=(2, 2), ending="epilogue"))
@example(three(dilation=(2, 1)))
@example(three(dilation=(2, 1), ending="floats"))
def test_depthwise_of_codes(case):
    rng = np.random.default_rng(case.seed)
    low, high, step = case.grid
    # Codes count the integers, or the steps if there are too many integers.
    unit = 1 if high - low < 256 else step
    most = 127 // unit
    kernel = rng.integers(-most - (unit == 1), most + 1, (case.channels, *case.size, 1))
    # All products as large as they get, and sums that are.
    kernel[rng.random(case.channels) < 0.2] = rng.choice([-most, most])
    pad = low + step * int(rng.integers(0, (high - low) // step + 1))
    conv = Conv2D(
        kernel=PackedTensor.of(kernel),
        strides=case.stride,
        dilation=case.dilation,
        pads=tuple(case.pads),
        pad=pad,
        groups=case.channels,
    )
    x = Value((*case.shape, case.channels), Grid(low, high, step))
    y = conv.infer(x)
    image = Image.of_codes(x.shape, tuple(case.pads))
    numbers = low + step * rng.integers(
        0, (high - low) // step + 1, (case.samples, *x.shape)
    )
    numbers[rng.random(case.samples) < 0.3] = high
    (top, bottom, left, right), (height, width, channels) = case.pads, y.shape
    widths = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad((numbers - low) // unit, widths, constant_values=(pad - low) // unit)
    # The kernel reads whole registers.
    source = np.append(padded.astype(np.uint8).reshape(-1), np.full(64, 77, np.uint8))
    scale = rng.uniform(-1, 1, channels).astype(F) / 200
    shift = rng.normal(0, 20, channels).astype(F)
    expected = reference(conv, numbers.astype(np.int32))
    values = Buffer(0, 4 * width * (-(-channels // 8) * 8))
    memory = Memory({values: 0}, values.fixed + 64, samples=case.samples)
    kernel = DepthwiseCodes.of(source, image, conv, x, y)
    kernel = attrs.evolve(kernel, values=values)
    out = Image.of_codes(y.shape, case.out_pads)
    if case.ending == "codes":
        result = np.full((case.samples, out.rows, out.columns, channels), 99, np.uint8)
        stage = Finish.of(
            *(channels, Nearest(1, 0.7, -128, 127), result, out), scale=scale, shift=shift
        )
        y_ = np.rint((expected.astype(F) * scale + shift) / F(0.7))
        inside = np.full_like(result, 99)
        inside[:, out.top : out.top + height, out.left : out.left + width] = (
            np.clip(y_, -128, 127) + 128
        )
    else:
        result = np.full((case.samples * height * width * channels + 1), 99, F)
        stage, numbers = Store(result), expected.astype(F)
        if case.ending == "floats":
            row = {"scale": scale, "shift": shift, "most": 40.0, "floats": result}
            stage = Finish.of(channels, None, 0, out, **row)
            numbers = np.clip(numbers * scale + shift, 0, 40).astype(F)
        inside = np.append(numbers.reshape(-1), F(99))
    kernel.epilogue.extend(0, stage)
    kernel = in_registers(kernel)
    assert bool(kernel.epilogue.stages) == (case.ending == "epilogue")
    Program(memory, [kernel])(case.samples)
    np.testing.assert_array_equal(result, inside)
