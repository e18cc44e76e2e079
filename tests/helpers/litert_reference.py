"""The reference kernels of LiteRT 2.3 in NumPy, to the bit.

Those that `BUILTIN_REF` selects, and those of microcontrollers. What the other built-in
kernels compute in vectors is in `litert_builtin`.

Formulas: google-ai-edge/LiteRT, tflite/kernels and its folders internal/reference and
internal/optimized; gemmlowp, fixedpoint.h.
"""

import numpy as np

from litert_kernels import (
    MOVING,
    activated,
    between,
    counted,
    mean_sums,
    pool_windows,
    saturate,
    sums,
)

F = np.float32


def away(x):
    """Rounded, half away from zero."""
    return np.trunc(x + np.copysign(0.5, x))


def fixed_point(real):
    """Positive numbers as integers of 31 bits and exponents: ``q * 2^(e - 31)``."""
    fraction, exponent = np.frexp(np.asarray(real, float))
    q = away(fraction * 2.0**31).astype(np.int64)
    full = q == 2**31
    q, exponent = np.where(full, q // 2, q), exponent + full
    small = exponent < -31
    return np.where(small, 0, q), np.where(small, 0, exponent).astype(np.int64)


def rounded_twice(x, q, exponent):
    """``x * q * 2^(exponent - 31)`` in int32, rounded to 31 bits and then to integers."""
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    product = wrapped(x << left) * q
    nudge = np.where(product >= 0, 2**30, 1 - 2**30)
    # As in C, a quotient is cut towards zero.
    total = product + nudge
    high = np.where(total >= 0, total >> 31, -(-total >> 31))
    return rounded_away(high, right)


def rounded_away(x, bits):
    """``x / 2^bits``, rounded half away from zero."""
    mask = (np.int64(1) << bits) - 1
    return (x >> bits) + ((x & mask) > (mask >> 1) + (x < 0))


def wrapped(x):
    """The lower 32 bits, as those of an int32."""
    return x.astype(np.int32).astype(np.int64)


def rounded_once(x, q, exponent):
    """The same for sums of int64, with a multiplier of 15 bits, rounded half up."""
    reduced = np.where(q < 0x7FFF0000, (q + 2**15) >> 16, 0x7FFF)
    shift = 15 - exponent
    return (x * reduced + (np.int64(1) << (shift - 1))) >> shift


def product(operator, out, x, kernel, bias):
    """Sums of int32 rounded twice; those of int64 once."""
    total = sums(operator, x, kernel, bias)
    some = kernel[0].scale.size > 1 or kernel[0].dtype == "int4" or out.dtype == "int16"
    if operator.code == "FULLY_CONNECTED" and some:
        y = in_floats(total, x, kernel, out)
    else:
        scale = x[0].scale.astype(float) * kernel[0].scale / out.scale
        scaled = rounded_once if bias[0].dtype == "int64" else rounded_twice
        y = scaled(total, *fixed_point(scale))
    return saturate(np.clip(y, *activated(operator, out, away)), out)


def in_floats(total, x, kernel, out):
    """The sums of a dense layer times a float64, rounded half away from zero."""
    scale = x[0].scale.astype(float) * kernel[0].scale / out.scale
    return away(total * scale).astype(np.int64)


def _added(sign):
    """ADD and SUB: both numbers in steps of the larger scale, times 2^20 or 2^15."""

    def kernel(operator, out, x, y):
        if x[0].dtype == "int32":
            return x[1] + y[1]
        bits = 15 if out.dtype == "int16" else 20
        twice = 2 * max(float(x[0].scale[0]), float(y[0].scale[0]))
        a, b = (
            rounded_twice(counted(p) << bits, *fixed_point(float(p[0].scale[0]) / twice))
            for p in (x, y)
        )
        scale = twice / ((1 << bits) * float(out.scale[0]))
        total = rounded_twice(a + sign * b, *fixed_point(scale))
        return saturate(np.clip(total, *activated(operator, out, away)), out)

    return kernel


def multiply(operator, out, x, y):
    """MUL: the product, rounded twice."""
    scale = float(x[0].scale[0]) * float(y[0].scale[0]) / float(out.scale[0])
    total = rounded_twice(counted(x) * counted(y), *fixed_point(scale))
    return saturate(np.clip(total, *activated(operator, out, away)), out)


def quantize(operator, out, x):
    """QUANTIZE of integers, rounded twice."""
    scale = float(x[0].scale[0]) / float(out.scale[0])
    return saturate(rounded_twice(counted(x), *fixed_point(scale)), out)


def mean(operator, out, x, axes):
    """MEAN: the count divides the multiplier of the scale, cut to an integer."""
    total, count = mean_sums(x, axes)
    scale = float(x[0].scale[0]) / float(out.scale[0])
    q, exponent = (int(n) for n in fixed_point(scale))
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    q, exponent = (q << shift) // count, exponent - shift
    return saturate(rounded_twice(total, np.int64(q), np.int64(exponent)), out)


def average_pool(operator, out, x):
    """AVERAGE_POOL_2D: of the integers as they are, rounded half away from zero."""
    image = x[1].astype(np.int64)
    total = pool_windows(operator, image, 0).sum((4, 5))
    count = pool_windows(operator, np.ones_like(image), 0).sum((4, 5))
    halves = np.where(total > 0, count // 2, -(count // 2))
    y = np.abs(total + halves) // count * np.sign(total + halves)
    low, high = activated(operator, out, away)
    return np.clip(y, low + out.zero, high + out.zero)


def resize(operator, out, x, size):
    """RESIZE_BILINEAR: 10 bits for each direction, rounded half away from zero."""
    image = x[1].astype(np.int64)
    for axis, count in ((1, int(size[1][0])), (2, int(size[1][1]))):
        full = image.shape[axis]
        step = ((full << 10) + count // 2) // count
        places = np.arange(count) * step + step // 2 - 2**9
        low = np.maximum(places >> 10, 0)
        rest = np.where(low == full - 1, 0, np.maximum(places, 0) - (low << 10))
        image = between(image, axis, (low, rest), 10)
    return np.sign(image) * ((np.abs(image) + 2**19) >> 20)


def function(compute, rounded=away):
    """A function of each number, computed in float32 for all 256."""

    def kernel(operator, out, x):
        real = counted(x).astype(F) * x[0].scale
        levels = rounded(compute(real) * (F(1) / out.scale))
        return saturate(levels.astype(int), out)

    return kernel


def sigmoid(x):
    return (1 / (1 + np.exp(-x.astype(float)))).astype(F)


def hyperbolic_tangent(x):
    return np.tanh(x.astype(float)).astype(F)


def softmax(operator, out, x):
    """SOFTMAX: exponentials in float32 from a table, added in order."""
    steps = (np.max(x[1], -1, keepdims=True).astype(int) - x[1]).astype(F)
    e = np.exp(-x[0].scale * steps).astype(F)
    total = np.zeros(e.shape[:-1], F)
    for i in range(e.shape[-1]):
        total = total + e[..., i]
    inverse = F(1) / (total * out.scale)
    y = away(e * inverse[..., None])
    return saturate(y.astype(int), out)


KERNELS = {
    **MOVING,
    "ADD": _added(1),
    "AVERAGE_POOL_2D": average_pool,
    "CONV_2D": product,
    "DEPTHWISE_CONV_2D": product,
    "FULLY_CONNECTED": product,
    "LOGISTIC": function(sigmoid),
    "MEAN": mean,
    "MUL": multiply,
    "QUANTIZE": quantize,
    "RESIZE_BILINEAR": resize,
    "SOFTMAX": softmax,
    "SUB": _added(-1),
    "TANH": function(hyperbolic_tangent),
}
