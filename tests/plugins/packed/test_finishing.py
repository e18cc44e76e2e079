"""The stage that finishes sums in one pass, as NumPy computes each of its steps."""

from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qframe.deployment.graph.operations import Activation, Affine
from qframe_packed.compiled.epilogue import apply
from qframe_packed.compiled.finishing import (
    Finish,
    Residual,
    clamp_of,
)
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Memory, aligned
from qframe_packed.compiled.parameters import table
from qframe_packed.compiled.vectors import padded

pytestmark = pytest.mark.pure
F = np.float32


@numba.njit
def run(values, width, first, size, channels, stages):
    apply(values, width, first, size, channels, stages, 1)


def finish(stage, x, first=0):
    """Run a stage on numbers (pixel, channel), and return what is in their place then."""
    size, channels = x.shape
    values = aligned((size, padded(channels)), F)
    values[:, :channels] = x
    memory = Memory({}, 0, samples=1)
    stages = table([stage], memory)
    run(values.ctypes.data, values.shape[1], first, size, channels, stages)
    return values[:, :channels]


def place(image, number):
    """The row and the column of a pixel in the images of a batch."""
    row, column = divmod(number, image.width)
    sample, row = divmod(row, image.height)
    return sample * image.rows + image.top + row, image.left + column


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38, 2**31, -(2**31)]
ROUNDINGS = [
    SimpleNamespace(low=-128, high=127, factor=1.0, divisor=0.37),
    SimpleNamespace(low=-127, high=127, factor=4.0, divisor=1.0),
    SimpleNamespace(low=0, high=255, factor=1.0, divisor=1e-30),
    SimpleNamespace(low=3, high=9, factor=1e-3, divisor=3e-4),
    SimpleNamespace(low=-5, high=-5, factor=1.0, divisor=1.0),
    None,
]
CLAMPS = [None, (0.0, np.inf), (0.0, 6.0), (0.0, 0.3), (-np.inf, 1.0)]


@st.composite
def cases(draw):
    """What a stage does, and the shape of the tensor."""
    return SimpleNamespace(
        shape=(draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 150))),
        pads=tuple(draw(st.integers(0, 2)) for _ in range(4)) * draw(st.integers(0, 1))
        or (0, 0, 0, 0),
        residual=draw(st.sampled_from([None, "floats", "codes"])),
        clamp=draw(st.sampled_from(CLAMPS)),
        rounding=draw(st.sampled_from(ROUNDINGS)),
        floats=draw(st.booleans()),
        in_place=draw(st.booleans()),
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
        clamp=(0.0, 6.0),
        rounding=ROUNDINGS[0],
        floats=True,
        in_place=False,
        first=2,
        size=13,
        seed=0,
    )
)
def test_a_stage_equals_numpy(case):
    rng, channels = np.random.default_rng(case.seed), case.shape[-1]
    image = Image.of_codes(case.shape, case.pads)
    x, last = drawn(rng, (case.size, channels)), case.first + case.size
    scale = rng.choice([1, 0.5, -0.25, 1e-30, 3.3e-5], channels).astype(F)
    shift = rng.choice([0, 0.5, -7, 1e-3], channels).astype(F)
    affine = Affine(scale=scale, shift=shift) if rng.random() < 0.8 else Affine()
    with np.errstate(all="ignore"):
        y = x * scale + shift if affine.scale is not None else x
        residual, kept = _residual(case, rng, last, image)
        if residual is not None:
            y = y + kept[case.first :]
        if case.clamp is not None:
            y = np.where(y > case.clamp[0], y, F(case.clamp[0]))
            y = np.where(y > case.clamp[1], F(case.clamp[1]), y)
        rounding = case.rounding
        if rounding is not None:
            rounded = np.rint(y * F(rounding.factor) / F(rounding.divisor))
            rounded = np.where(np.isnan(rounded), rounding.low, rounded)
            expected = np.clip(rounded, rounding.low, rounding.high) - rounding.low
    samples = -(-last // (image.height * image.width))
    codes = np.full((samples * image.rows, image.columns, channels), 199, np.uint8)
    untouched = codes.copy()
    floats = np.full((last + 1, channels), 7, F)
    stage = Finish.of(
        channels,
        affine,
        residual,
        case.clamp,
        floats=floats if case.floats and not case.in_place else None,
        in_place=case.in_place,
        rounding=rounding,
        codes=codes if rounding is not None else None,
        image=image,
    )
    after = finish(stage, x, case.first)
    np.testing.assert_array_equal(after, y if case.in_place else x)
    if case.floats and not case.in_place:
        np.testing.assert_array_equal(floats[case.first : last], y)
        assert (floats[: case.first] == 7).all()
        assert (floats[last:] == 7).all()
    if rounding is not None:
        for number, row in enumerate(expected, case.first):
            untouched[place(image, number)] = row
    np.testing.assert_array_equal(codes, untouched)


def _residual(case, rng, last, image):
    """A residual for a stage, and its numbers (pixel, channel)."""
    channels = case.shape[-1]
    if case.residual is None:
        return None, None
    if case.residual == "floats":
        numbers = drawn(rng, (last, channels))
        numbers = np.concatenate([numbers, numbers])
        return Residual(numbers, Image.of(case.shape, (0, 0, 0, 0)), False), numbers[:last]
    own = Image.of_codes(case.shape, case.pads[::-1])
    samples = -(-last // (own.height * own.width))
    codes = rng.integers(0, 256, (samples * own.rows + 9, own.columns, channels))
    codes = codes.astype(np.uint8)
    step, low, scale, shift = 2, -100, F(0.013), F(-0.2)
    residual = Residual(codes, own, True, step, low, scale, shift)
    chosen = np.stack([codes[place(own, number)] for number in range(last)])
    return residual, (chosen.astype(np.int32) * step + low).astype(F) * scale + shift


def test_a_relu_is_a_clamp_only_without_slope_and_threshold():
    assert clamp_of(Activation(function="relu")) == (0, np.inf)
    assert clamp_of(Activation(function="relu", most=6)) == (0, 6)
    assert clamp_of(Activation(function="relu", alpha=0.5)) is None
    assert clamp_of(Activation(function="relu", threshold=1.0)) is None
    assert clamp_of(Activation(function="tanh")) is None
