"""The built-in kernels of LiteRT 2.3 in NumPy, to the bit, on x86.

In vectors numbers halfway are rounded up, and in what is left of a row away from zero.
Formulas: google-ai-edge/LiteRT, tflite/kernels/internal/optimized; google/ruy.
"""

import numpy as np

import litert_reference as reference
from litert_kernels import activated, counted, saturate, sums
from litert_reference import away, fixed_point, rounded_away, rounded_twice


def rounded_up(x, q, exponent):
    """``x * q * 2^(exponent - 31)``, rounded half up to 31 bits and then to integers."""
    right = np.maximum(-exponent, 0)
    return (high_up(x, q, exponent) + ((np.int64(1) << right) >> 1)) >> right


def high_up(x, q, exponent):
    """The upper half of a product, rounded half up."""
    wide = reference.wrapped(x << np.maximum(exponent, 0)) * q
    return (wide + 2**30) >> 31


def in_vectors(shape, size=16):
    """Which numbers of a tensor are in whole vectors."""
    count = int(np.prod(shape))
    return (np.arange(count) < count // size * size).reshape(shape)


def product(operator, out, x, kernel, bias):
    """Sums of int32 rounded twice."""
    total = sums(operator, x, kernel, bias)
    scale = x[0].scale.astype(float) * kernel[0].scale / out.scale
    q, exponent = fixed_point(scale)
    if bias[0].dtype == "int64":
        return reference.product(operator, out, x, kernel, bias)
    y = rounded_up(total, q, exponent)
    if operator.code == "DEPTHWISE_CONV_2D":
        vectors = in_vectors(total.shape[-1:], 8)
        y = np.where(vectors, y, rounded_twice(total, q, exponent))
    elif operator.code == "CONV_2D" and kernel[0].shape[3] < x[0].shape[3]:
        # In groups.
        y = rounded_twice(total, q, exponent)
    return saturate(np.clip(y, *activated(operator, out, away)), out)


def add(operator, out, x, y):
    """ADD: shifted to the left at once, multiplied, added, multiplied."""
    if x[0].dtype == "int32" or out.dtype == "int16":
        return reference.KERNELS["ADD"](operator, out, x, y)
    twice = 2 * max(float(x[0].scale[0]), float(y[0].scale[0]))
    total = 0
    for pair in (x, y):
        q, exponent = fixed_point(float(pair[0].scale[0]) / twice)
        total = total + high_up(_shifted(counted(pair), 20 + exponent), q, np.int64(0))
    q, exponent = fixed_point(twice / (2**20 * float(out.scale[0])))
    total = rounded_away(high_up(total, q, np.int64(0)), -exponent)
    vectors = saturate(np.clip(total, *activated(operator, out, away)), out)
    rest = reference.KERNELS["ADD"](operator, out, x, y)
    return np.where(in_vectors(vectors.shape), vectors, rest)


def _shifted(x, bits):
    return x << bits if bits >= 0 else x >> -bits


def multiply(operator, out, x, y):
    """MUL: the product in int16, in which it must fit with the zero point."""
    rest = reference.multiply(operator, out, x, y)
    if out.dtype == "int16":
        return rest
    scale = float(x[0].scale[0]) * float(y[0].scale[0]) / float(out.scale[0])
    q, exponent = fixed_point(scale)
    total = high_up(counted(x) * counted(y), q, exponent)
    total = np.clip(rounded_away(total, np.maximum(-exponent, 0)), -(2**15), 2**15 - 1)
    total = (total + out.zero).astype(np.int16).astype(int) - out.zero
    vectors = saturate(np.clip(total, *activated(operator, out, away)), out)
    return np.where(in_vectors(vectors.shape), vectors, rest)


def quantize(operator, out, x):
    """QUANTIZE of integers, rounded twice."""
    rest = reference.quantize(operator, out, x)
    if out.dtype == "int16":
        return rest
    scale = float(x[0].scale[0]) / float(out.scale[0])
    vectors = saturate(rounded_up(counted(x), *fixed_point(scale)), out)
    return np.where(in_vectors(vectors.shape), vectors, rest)


KERNELS = {
    **reference.KERNELS,
    "ADD": add,
    "CONV_2D": product,
    "DEPTHWISE_CONV_2D": product,
    "FULLY_CONNECTED": product,
    "MUL": multiply,
    "QUANTIZE": quantize,
}
