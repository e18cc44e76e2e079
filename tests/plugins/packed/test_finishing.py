"""The stage that finishes sums in one pass, as NumPy computes each of its steps."""

from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guarded_arrays import guarded
from qframe_packed.compiled.epilogue import apply
from qframe_packed.compiled.finishing import (
    Finish,
    Residual,
)
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.levels import Nearest
from qframe_packed.compiled.memory import Memory
from qframe_packed.compiled.parameters import table

pytestmark = pytest.mark.pure
F = np.float32


@numba.njit
def run(values, width, first, size, channels, stages):
    apply(values, width, first, size, channels, stages, 1)


def finish(stage, x, first=0):
    """Run a stage on numbers (pixel, channel)."""
    size, channels = x.shape
    values = guarded(x.shape, x)
    memory = Memory({}, 0, samples=1)
    stages = table([stage], memory)
    run(values.ctypes.data, channels, first, size, channels, stages)


def place(image, number):
    """The row and the column of a pixel in the images of a batch."""
    row, column = divmod(number, image.width)
    sample, row = divmod(row, image.height)
    return sample * image.rows + image.top + row, image.left + column


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38, 2**31, -(2**31)]
ROUNDINGS = [
    Nearest(low=-128, high=127, factor=1.0, divisor=0.37),
    Nearest(low=-127, high=127, factor=4.0, divisor=1.0),
    Nearest(low=0, high=255, factor=1.0, divisor=1e-30),
    Nearest(low=3, high=9, factor=1e-3, divisor=3e-4),
    Nearest(low=-5, high=-5, factor=1.0, divisor=1.0),
]
MOST = [None, np.inf, 6.0, 0.3, -1.0]


@st.composite
def cases(draw):
    """What a stage does, and the shape of the tensor."""
    return SimpleNamespace(
        shape=(draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 150))),
        pads=tuple(draw(st.integers(0, 2)) for _ in range(4)) * draw(st.integers(0, 1))
        or (0, 0, 0, 0),
        residual=draw(st.sampled_from([None, "floats", "codes"])),
        most=draw(st.sampled_from(MOST)),
        rounding=draw(st.sampled_from(ROUNDINGS)),
        floats=draw(st.booleans()),
        first=draw(st.integers(0, 9)),
        size=draw(st.integers(1, 20)),
        seed=draw(st.integers(0, 2**16)),
    )


def drawn(rng, shape, special=0.05):
    """Numbers of many sizes, among them ties and those that are not finite."""
    x = rng.normal(size=shape) * rng.choice([1e-3, 1, 40, 1e9], shape)
    halves = rng.integers(-300, 300, shape) / 2
    x = np.where(rng.random(shape) < 0.5, halves, x)
    return np.where(rng.random(shape) < special, rng.choice(SPECIAL, shape), x).astype(F)


@given(cases())
@example(
    SimpleNamespace(
        shape=(2, 3, 130),
        pads=(1, 0, 2, 1),
        residual="codes",
        most=6.0,
        rounding=ROUNDINGS[0],
        floats=True,
        first=2,
        size=13,
        seed=0,
    )
)
@example(
    SimpleNamespace(
        shape=(1, 1, 70),
        pads=(0, 0, 0, 0),
        residual=None,
        most=-1.0,
        rounding=ROUNDINGS[0],
        floats=False,
        first=0,
        size=1,
        seed=0,
    )
)
def test_a_stage_equals_numpy(case):
    rng, channels = np.random.default_rng(case.seed), case.shape[-1]
    image = Image.of_codes(case.shape, case.pads)
    x, last = drawn(rng, (case.size, channels)), case.first + case.size
    scale = rng.choice([1, 0.5, -0.25, 1e-30, 3.3e-5], channels).astype(F)
    shift = rng.choice([0, 0.5, -7, 1e-3], channels).astype(F)
    parts = {"scale": scale, "shift": shift} if rng.random() < 0.8 else {}
    rounding = case.rounding
    with np.errstate(all="ignore"):
        y = x * scale + shift if parts else x
        residual, added = _residual(case, rng, last, image)
        if residual is not None:
            y = y + added[case.first :]
        if case.most is not None:
            y = np.minimum(np.where(y > 0, y, F(0)), F(case.most))
        rounded = np.rint(y * F(rounding.factor) / F(rounding.divisor))
    rounded = np.where(np.isnan(rounded), rounding.low, rounded)
    expected = np.clip(rounded, rounding.low, rounding.high) - rounding.low
    samples = -(-last // (image.height * image.width))
    codes = np.full((samples * image.rows, image.columns, channels), 199, np.uint8)
    all_codes = codes.copy()
    for number, row in enumerate(expected, case.first):
        all_codes[place(image, number)] = row
    floats = guarded((last, channels))
    floats[:] = 7
    parts |= {"residual": residual, "most": case.most}
    if case.floats:
        parts["floats"] = floats
    finish(Finish.of(channels, rounding, codes, image, **parts), x, case.first)
    np.testing.assert_array_equal(codes, all_codes)
    stored = np.full_like(floats, 7)
    if case.floats:
        stored[case.first : last] = y
    np.testing.assert_array_equal(floats, stored)


def _residual(case, rng, last, image):
    """A residual for a stage, and its numbers (pixel, channel)."""
    channels = case.shape[-1]
    if case.residual is None:
        return None, None
    if case.residual == "floats":
        numbers = drawn(rng, (last, channels))
        source = guarded(numbers.shape, numbers)
        return Residual(source, Image.of(case.shape, (0, 0, 0, 0))), numbers
    own = Image.of_codes(case.shape, case.pads[::-1])
    samples = -(-last // (own.height * own.width))
    codes = rng.integers(0, 256, (samples * own.rows + 9, own.columns, channels))
    codes = codes.astype(np.uint8)
    step, low, scale, shift = 2, -100, F(0.013), F(-0.2)
    residual = Residual(codes, own, True, step, low, scale, shift)
    chosen = np.stack([codes[place(own, number)] for number in range(last)])
    return residual, (chosen.astype(np.int32) * step + low).astype(F) * scale + shift
