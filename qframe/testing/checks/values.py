"""The values of a quantizer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.quantizers.differentiation import Array, to_numpy, to_tensor
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.comparison import neighbours, on_tensors, require_equal
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject

# Fewer shapes for the other dtypes, which treat all shapes as float32 does.
_CASES = {
    "float32": ((), (0, 4), (1,), (7,), (2, 3), (3, 1, 5), (2, 1, 3, 2), (1, 2, 2, 1, 2)),
    "float16": ((), (2, 3)),
    "bfloat16": ((), (2, 3)),
}


def value(function: Any, x: Array) -> Array:
    """The value of a quantizer for an array, as NumPy."""
    return to_numpy(function(to_tensor(x)))


@of_quantizers()
def shape_and_dtype(subject: QuantizerSubject) -> None:
    """The result has the shape and the dtype of the input."""
    for dtype, shapes in _CASES.items():
        for shape in shapes:
            quantizer = subject.fresh()
            if subject.stateful and shape:
                quantizer.build(shape)
            axis = -1 if shape else None
            x = ops.cast(ops.convert_to_tensor(subject.batch(shape)), dtype)
            result = subject.on_axis(quantizer, axis)(x)
            source = f"a tensor of shape {shape} and dtype {dtype}"
            result_shape = getattr(result, "shape", None)
            require(
                result_shape is not None and tuple(result_shape) == shape,
                f"{source} became one of shape {result_shape}.",
            )
            result_dtype = keras.backend.standardize_dtype(result.dtype)
            require(
                result_dtype == dtype,
                f"{source} became {result_dtype}; cast constants to the input dtype.",
            )


@of_quantizers()
def integer_inputs(subject: QuantizerSubject) -> None:
    """Integers and booleans are quantized as the same numbers in floating point."""
    for dtype in ("int32", "uint8", "bool"):
        x = np.arange(52).reshape(STATE_SHAPE) % 2
        result = subject.call(ops.convert_to_tensor(x.astype(dtype)))
        result_dtype = keras.backend.standardize_dtype(result.dtype)
        require(
            result_dtype == keras.config.floatx(),
            f"{dtype} became {result_dtype}, expected {keras.config.floatx()}.",
        )
        expected = value(subject.call, x.astype(keras.config.floatx()))
        require_equal(to_numpy(result), expected, x, f"{dtype} as float")


def _steps(subject: QuantizerSubject, x: Array, y: Array) -> Array:
    """The values before the scale."""
    scale = subject.scale(x)
    return y / np.where(scale == 0, 1, scale)


def nearest(levels: Array, y: Array) -> Array:
    """The level nearest to each number; the levels ascend."""
    above = np.clip(np.searchsorted(levels, y), 1, max(len(levels) - 1, 1))
    low, high = levels[above - 1], levels[np.minimum(above, len(levels) - 1)]
    level: Array = np.where(np.abs(y - low) <= np.abs(high - y), low, high)
    return level


@of_quantizers(when=lambda subject: subject.traits.levels)
def levels(subject: QuantizerSubject) -> None:
    """Every value is one of the declared levels, times the scale if there is one."""
    allowed = np.asarray(subject.traits.levels)
    # With a scale of 0 every value is 0.
    possible = np.union1d(allowed, 0.0) if subject.traits.scaled else allowed

    def on_levels(x: Array) -> None:
        with np.errstate(over="ignore"):
            steps = _steps(subject, x, value(subject.call, x))
        expected = nearest(possible, steps)
        require_equal(steps, expected, x, "a value between the levels", 1e-5, 1e-6)

    on_tensors(subject, on_levels)
    for dtype in ("float16", "bfloat16"):
        x = ops.cast(ops.convert_to_tensor(subject.batch()), dtype)
        steps = _steps(subject, to_numpy(x), to_numpy(subject.call(x)))
        error = np.abs(steps - nearest(allowed, steps))
        # The unit in the last place of bfloat16 is 1/128 of the number.
        worst = np.abs(allowed).max() / 100
        require(
            (error <= worst).all(),
            f"{dtype} values are off the levels by up to {error.max():.3g}.",
        )


@of_quantizers(when=lambda subject: subject.traits.range)
def range_(subject: QuantizerSubject) -> None:
    """Every value is in the declared range, times the scale if there is one."""
    low, high = subject.traits.range

    def in_range(x: Array) -> None:
        steps = _steps(subject, x, value(subject.call, x))
        slack = 1e-5 * max(abs(low), abs(high)) if subject.traits.scaled else 0.0
        inside = (steps >= low - slack) & (steps <= high + slack)
        require(
            inside.all(),
            f"values reach from {steps.min()} to {steps.max()}; the range is {low} to "
            f"{high}.",
        )

    on_tensors(subject, in_range)


@of_quantizers(
    when=lambda s: s.sample.precision and not s.traits.tag and not s.traits.scaled
)
def bits(subject: QuantizerSubject) -> None:
    """No more than ``2**precision`` different values in a channel."""
    most = 2**subject.sample.precision
    if most > 2**12:
        return  # more than the elements of any tensor here
    x = np.linspace(-4, 4, 4 * most + 13, dtype="float32")
    values = value(subject.call, np.stack([x] * 4, axis=-1))
    for channel in range(4):
        count = len(np.unique(values[:, channel]))
        require(
            count <= most,
            f"{count} different values; precision={subject.sample.precision} allows "
            f"{most}.",
        )


@of_quantizers(when=lambda subject: subject.affine(subject.batch()) is not None)
def integers(subject: QuantizerSubject) -> None:
    """``scale * (integer - zero_point)`` is the value, and the integers fit the bits."""

    def dequantize(x: Array) -> None:
        result = subject.ready.integers(to_tensor(x), -1)
        expected = value(subject.call, x)
        with np.errstate(over="ignore"):
            dequantized = result.dequantized()
        require_equal(
            dequantized, expected, x, "scale * (integer - zero_point)", 1e-5, 1e-6
        )
        precision = subject.sample.precision
        if precision:
            count = len(np.unique(result.values))
            require(
                count <= 2**precision,
                f"{count} different integers do not fit into {precision} bits.",
            )

    on_tensors(subject, dequantize)


@of_quantizers(when=lambda subject: subject.affine(subject.batch()) is not None)
def scales(subject: QuantizerSubject) -> None:
    """Scales computed from the numbers are counted, constants and variables are not."""
    x, quantizer = subject.batch(), subject.ready
    counted = quantizer.scales_of(x.shape, -1)
    scale, larger = (quantizer.integers(to_tensor(k * x), -1).scale for k in (1, 64))
    variables = subject.traits.trainable or subject.traits.updates
    follow = not variables and not np.array_equal(scale, larger)
    require(
        counted == (scale.size if follow else 0),
        f"scales_of says {counted} for the shape {x.shape}; `integers` gives {scale.size} "
        f"scales that {'follow' if follow else 'do not follow'} the numbers.",
    )
    bits = quantizer.bits_of_scales(x.shape, -1)
    require(
        bool(bits) == bool(counted),
        f"bits_of_scales says {bits}, and scales_of {counted}.",
    )


@of_quantizers(when=lambda subject: subject.traits.reference)
def reference(subject: QuantizerSubject) -> None:
    """The values are those of the NumPy reference, ties and kinks included."""
    function = subject.traits_of_ready.reference

    def agree(x: Array) -> None:
        compare(subject, value(subject.call, x), function, x, "the value")

    on_tensors(subject, agree)


def compare(
    subject: QuantizerSubject, actual: Array, function: Any, x: Array, name: str
) -> None:
    """Raise unless an array equals the NumPy reference for `x`.

    A computed scale may move a tie: then values of the other side within 1e-6 are correct
    too. Without one a tie is exact.
    """
    axis = (-1,) if subject.traits.channelwise else ()
    with np.errstate(all="ignore"):
        expected = np.asarray(function(x, *axis))
        near = () if subject.elementwise else neighbours(x)
        others = tuple(np.asarray(function(n, *axis)) for n in near)
    require(
        expected.dtype == x.dtype,
        f"the reference of {name} returns {expected.dtype} for {x.dtype}.",
    )
    message = f"{name} is not that of the NumPy reference"
    require_equal(actual, expected, x, message, 1e-4, 1e-6, others)


@of_quantizers(when=lambda subject: subject.traits.idempotent)
def idempotent(subject: QuantizerSubject) -> None:
    """Quantizing twice equals quantizing once."""

    def twice(x: Array) -> None:
        once = value(subject.call, x)
        result = value(subject.call, once)
        require_equal(result, once, once, "quantized again", 1e-5, 1e-6)

    on_tensors(subject, twice)


@of_quantizers(when=lambda subject: subject.traits.monotone)
def monotone(subject: QuantizerSubject) -> None:
    """A larger input never gives a smaller output."""

    def ascending(x: Array) -> None:
        y = value(subject.call, x)
        # By channel if channels may have different scales.
        by_channel = x.ndim > 1 and not subject.elementwise
        columns = zip(x.T, y.T, strict=True) if by_channel else [(x, y)]
        for inputs, outputs in columns:
            order = np.argsort(inputs, axis=None, kind="stable")
            values, at = outputs.ravel()[order], inputs.ravel()[order]
            fall = np.flatnonzero((values[1:] < values[:-1]) & (at[1:] > at[:-1]))
            require(
                not len(fall),
                "the value falls from "
                + "; ".join(
                    f"{values[i]!r} at x = {at[i]!r} to {values[i + 1]!r} at {at[i + 1]!r}"
                    for i in fall[:1]
                ),
            )

    on_tensors(subject, ascending)


@of_quantizers(when=lambda subject: subject.traits.odd)
def odd(subject: QuantizerSubject) -> None:
    """``q(-x) == -q(x)`` for every x except zero and ties."""

    def mirrored(x: Array) -> None:
        y, mirror = value(subject.call, x), value(subject.call, -x)
        near = (-value(subject.call, n) for n in neighbours(x))
        nonzero = x != 0
        require_equal(
            mirror[nonzero],
            -y[nonzero],
            x[nonzero],
            "q(-x) against -q(x)",
            1e-5,
            1e-6,
            tuple(n[nonzero] for n in near),
        )

    on_tensors(subject, mirrored)


@of_quantizers(when=lambda s: s.traits.elementwise and s.traits.nan is not None)
def nan(subject: QuantizerSubject) -> None:
    """NaN becomes the value in the traits, and does not affect other numbers."""
    x = subject.batch()
    expected = value(subject.call, x)
    x[3, 1] = np.nan
    expected[3, 1] = subject.traits.nan
    message = f"NaN is to become {subject.traits.nan}"
    require_equal(value(subject.call, x), expected, x, message)


@of_quantizers(when=lambda s: s.traits.elementwise)
def infinity(subject: QuantizerSubject) -> None:
    """Infinities become the ends of the range where the quantizer is monotone, not NaN."""
    x = subject.batch()
    x[2, 0], x[3, 1] = -np.inf, np.inf
    values = value(subject.call, x)
    require(not np.isnan(values).any(), f"{x[np.isnan(values)][:1]} became NaN.")
    if subject.traits.range and subject.traits.monotone:
        ends = _steps(subject, x, values)[[2, 3], [0, 1]]
        message = "infinities are to become the ends of the range"
        require_equal(ends, subject.traits.range, x[[2, 3], [0, 1]], message, 1e-5, 1e-6)
