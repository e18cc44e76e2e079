"""The kernels of XNNPACK in NumPy, to the bit, as LiteRT 2.3 runs them on x86.

Formulas: google/XNNPACK, src/microparams-init.c and src/operators; the conditions under
which the runtime leaves an operator to its built-in kernels: xnnpack_delegate.cc.
"""

import numpy as np

import litert_builtin as builtin
from litert_kernels import activated, between, counted, mean_sums, saturate, sums
from litert_reference import function, hyperbolic_tangent, sigmoid

F = np.float32


def product(operator, out, x, kernel, bias):
    """Sums of int32, one multiplier of float32, rounded half to even."""
    # It takes dense kernels of 4 bits, if rows end at whole bytes.
    dense = operator.code == "FULLY_CONNECTED" and kernel[0].shape[1] % 2 == 0
    if (kernel[0].dtype == "int4" and not dense) or out.dtype == "int16":
        return builtin.product(operator, out, x, kernel, bias)
    total = sums(operator, x, kernel, bias).astype(F)
    multiplier = x[0].scale * kernel[0].scale / out.scale
    low, high = activated(operator, out)
    return saturate(np.clip(np.rint(total * multiplier), low, high).astype(int), out)


def _multiplied(sign):
    """ADD and SUB: multipliers of 21 bits, of which the larger one has all."""

    def kernel(operator, out, x, y):
        if x[0].dtype == "int32":
            return x[1] + y[1]
        ratios = [tensor.scale[0] / out.scale[0] for tensor, _ in (x, y)]
        if out.dtype != "int8" or not all(2**-10 <= ratio < 2**8 for ratio in ratios):
            return builtin.KERNELS[operator.code](operator, out, x, y)
        shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
        a, b = (int(np.rint(np.ldexp(ratio, shift))) for ratio in ratios)
        total = counted(x) * a + sign * b * counted(y) + (1 << (shift - 1))
        return saturate(np.clip(total >> shift, *activated(operator, out)), out)

    return kernel


def multiply(operator, out, x, y):
    """MUL: one multiplier of float32, rounded half to even."""
    scale = x[0].scale * y[0].scale / out.scale
    if out.dtype != "int8" or not 2**-16 <= scale[0] < 2**8:
        return builtin.multiply(operator, out, x, y)
    total = (counted(x) * counted(y)).astype(F)
    low, high = activated(operator, out)
    return saturate(np.clip(np.rint(total * scale), low, high).astype(int), out)


def quantize(operator, out, x):
    """QUANTIZE of integers: a multiplier of 8 bits behind the point, rounded half up."""
    ratio = x[0].scale[0] / out.scale[0]
    if out.dtype != "int8" or not 2**-8 <= ratio <= 2**7:
        return builtin.quantize(operator, out, x)
    multiplier = int(np.rint(F(256) * ratio))
    return saturate((counted(x) * multiplier + 128) >> 8, out)


def mean(operator, out, x, axes):
    """Sums in int32, one multiplier of float32."""
    if out.dtype != "int8":
        return builtin.KERNELS["MEAN"](operator, out, x, axes)
    total, count = mean_sums((x[0], x[1]), axes)
    scale = x[0].scale[0] / out.scale[0] * (F(1) / F(count))
    return saturate(np.rint(total.astype(F) * scale).astype(int), out)


def resize(operator, out, x, size):
    """RESIZE_BILINEAR: 11 bits for each direction, rounded half up."""
    if out.dtype != "int8":
        return builtin.KERNELS["RESIZE_BILINEAR"](operator, out, x, size)
    image = x[1].astype(np.int64)
    for axis, count in ((2, size[1][1]), (1, size[1][0])):
        full = image.shape[axis]
        step = F(full) / F(count)
        places = np.arange(count).astype(F) * step + (F(0.5) * step - F(0.5))
        places = np.clip(places, 0, F(full - 1))
        low = places.astype(np.int64)
        rest = np.rint((places - low.astype(F)) * F(2**11)).astype(np.int64)
        image = between(image, axis, (low, rest), 11)
    return (image + 2**21) >> 22


KERNELS = {
    **builtin.KERNELS,
    "ADD": _multiplied(1),
    "CONV_2D": product,
    "DEPTHWISE_CONV_2D": product,
    "FULLY_CONNECTED": product,
    "LOGISTIC": function(sigmoid, np.rint),
    "MEAN": mean,
    "MUL": multiply,
    "QUANTIZE": quantize,
    "RESIZE_BILINEAR": resize,
    "SUB": _multiplied(-1),
    "TANH": function(hyperbolic_tangent, np.rint),
}
