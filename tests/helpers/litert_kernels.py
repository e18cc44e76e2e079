"""What all kernels of LiteRT share, in NumPy: windows, and what only moves integers.

A kernel takes an operator, its output tensor, and its inputs as pairs of a tensor and its
integers, and returns integers.
"""

import numpy as np

SAME = 0
RELU, RELU6 = 1, 3


def evaluate(file, inputs, kernels):
    """What a file returns for these integers, computed by these kernels.

    Args:
        file: a `litert_files.File`.
        inputs: one array for each input.
        kernels: by the code of an operator.
    """
    values = {i: tensor.data for i, tensor in enumerate(file.tensors)}
    values |= dict(zip(file.inputs, inputs, strict=True))
    for operator in file.operators:
        (out,) = operator.outputs
        pairs = [(file.tensors[i], values[i]) for i in operator.inputs]
        result = kernels[operator.code](operator, file.tensors[out], *pairs)
        values[out] = result.astype(file.tensors[out].dtype)
    return [values[i] for i in file.outputs]


def counted(pair):
    """Integers from the zero point on, of 64 bits."""
    tensor, x = pair
    return x.astype(np.int64) - tensor.zero


def saturate(y, out):
    """Integers of the type of a tensor; `y` counts from the zero point."""
    return np.clip(y + out.zero, *out.ends)


def activated(operator, out, rounded=np.rint):
    """The ends of the integers after the ReLU of an operator, from the zero point on."""
    low, high = (end - out.zero for end in out.ends)
    function = operator.options.get("FusedActivationFunction", 0)
    assert function in (0, RELU, RELU6)
    if function:
        low = max(low, 0)
    if function == RELU6:
        high = min(high, int(rounded(np.float32(6) / out.scale[0])))
    return low, high


def padded(x, operator, reach, fill):
    """An image with the border of SAME, or as it is."""
    if operator.options["Padding"] != SAME:
        return x
    widths = [(0, 0)]
    strides = operator.options["StrideH"], operator.options["StrideW"]
    for size, window, stride in zip(x.shape[1:3], reach, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        widths.append((total // 2, total - total // 2))
    return np.pad(x, [*widths, (0, 0)], constant_values=fill)


def windows(x, reach, strides, dilation=(1, 1)):
    """A view (batch, rows, columns, channels, height, width) of all windows."""
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1]]
    return view[..., :: dilation[0], :: dilation[1]]


def pool_windows(operator, x, fill):
    """The windows of a pool, with a number in the border."""
    options = operator.options
    pool = options["FilterHeight"], options["FilterWidth"]
    strides = options["StrideH"], options["StrideW"]
    return windows(padded(x, operator, pool, fill), pool, strides)


def convolved(operator, image, kernel):
    """The sums of CONV_2D, in groups where the kernel has fewer channels."""
    x, (_, weights) = counted(image), kernel
    outputs, height, width, size = weights.shape
    view = _kernel_windows(operator, x, height, width)
    groups = x.shape[3] // size
    parts = []
    for group in range(groups):
        some = slice(group * outputs // groups, (group + 1) * outputs // groups)
        channels = view[..., group * size : (group + 1) * size, :, :]
        parts.append(
            np.einsum("brcihw,ohwi->brco", channels, weights[some].astype(np.int64))
        )
    return np.concatenate(parts, axis=3)


def depthwise(operator, image, kernel):
    """The sums of DEPTHWISE_CONV_2D."""
    x, (_, weights) = counted(image), kernel
    _, height, width, outputs = weights.shape
    view = _kernel_windows(operator, x, height, width)
    view = np.repeat(view, outputs // x.shape[3], axis=3)
    return np.einsum("brcohw,hwo->brco", view, weights[0].astype(np.int64))


def _kernel_windows(operator, x, height, width):
    options = operator.options
    dilation = options["DilationHFactor"], options["DilationWFactor"]
    reach = (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1
    strides = options["StrideH"], options["StrideW"]
    return windows(padded(x, operator, reach, 0), reach, strides, dilation)


def matrix_product(operator, x, kernel):
    """The sums of FULLY_CONNECTED."""
    return counted(x) @ kernel[1].astype(np.int64).T


SUMS = {
    "CONV_2D": convolved,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": matrix_product,
}


def sums(operator, x, kernel, bias):
    """The sums of a product and its bias; they fit the type of the bias."""
    total = SUMS[operator.code](operator, x, kernel) + bias[1].astype(np.int64)
    info = np.iinfo(bias[0].dtype)
    assert total.size == 0 or info.min <= total.min() <= total.max() <= info.max
    return total


def mean_sums(x, axes):
    """The sums of MEAN, and how many numbers are in one."""
    axes = tuple(axes[1].reshape(-1).tolist())
    count = int(np.prod([x[1].shape[axis] for axis in axes]))
    return counted(x).sum(axis=axes), count


def pad(operator, out, x, widths, value=None):
    fill = x[0].zero if value is None else int(value[1])
    return np.pad(x[1], widths[1], constant_values=fill)


def strided_slice(operator, out, x, begin, end, steps):
    parts = zip(begin[1], end[1], steps[1], strict=True)
    rest = [slice(*map(int, part)) for part in parts][1:]
    # The masks of the batch, which is whole.
    assert operator.options["BeginMask"] == operator.options["EndMask"] == 1
    return x[1][(slice(None), *rest)]


def nearest(operator, out, x, size):
    image = x[1]
    for axis, count in enumerate(size[1].tolist(), 1):
        image = image.take(np.arange(count) * image.shape[axis] // count, axis)
    return image


def reshape(operator, out, x, shape):
    return x[1].reshape(len(x[1]), *shape[1][1:])


def between(x, axis, places, bits):
    """Numbers between neighbours along an axis, times ``2^bits``.

    Args:
        x: integers.
        axis: of the image.
        places: for each result, the index of the neighbour before it, and the rest of the
            distance in steps of ``2^-bits``.
        bits: of the rest.
    """
    low, rest = places
    last = x.shape[axis] - 1
    rest = rest.reshape(-1, *(1,) * (x.ndim - axis - 1))
    before, after = x.take(low, axis), x.take(np.minimum(low + 1, last), axis)
    return (before << bits) + (after - before) * rest


# The kernels whose results are the same in all implementations of the runtime.
MOVING = {
    "ADD": lambda op, out, x, y: x[1] + y[1],
    "CAST": lambda op, out, x: x[1],
    "CONCATENATION": lambda op, out, *xs: np.concatenate(
        [x for _, x in xs], axis=op.options["Axis"]
    ),
    "FLOOR_DIV": lambda op, out, x, y: x[1] // y[1],
    "GATHER": lambda op, out, table, index: table[1][index[1]],
    "MAXIMUM": lambda op, out, x, y: np.maximum(x[1], y[1]),
    "MAX_POOL_2D": lambda op, out, x: pool_windows(op, x[1], out.ends[0]).max((4, 5)),
    "MINIMUM": lambda op, out, x, y: np.minimum(x[1], y[1]),
    "PAD": pad,
    "PADV2": pad,
    "REDUCE_MAX": lambda op, out, x, axes: x[1].max(tuple(axes[1].reshape(-1).tolist())),
    "RESHAPE": reshape,
    "RESIZE_NEAREST_NEIGHBOR": nearest,
    "STRIDED_SLICE": strided_slice,
    "TRANSPOSE": lambda op, out, x, axes: x[1].transpose(axes[1]),
}
