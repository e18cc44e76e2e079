"""Small summaries of a tensor: its smallest and largest number, and a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.quantizers.replicas import over_replicas


def summary(x: Any, shape: tuple[int, ...], samples: int, axis: Any) -> list[Any]:
    """The size of the batch, both ends and optional samples of each example.

    The shape of each is (examples, 1 or more, 1 or channels) for all other sizes of `x`, so
    that different batches can be joined. Missing samples are NaN.

    Args:
        x: the tensor; its first axis is that of examples.
        shape: the shape of its range, as in `Quantizer.range_shape`.
        samples: the number of samples of an example; 0 for none.
        axis: the axis or axes of its channels.
    """
    x = ops.cast(x, "float32")
    rank, channels = len(x.shape), [i for i, size in enumerate(shape) if size != 1]
    # Counted from the end, since the range and the tensor may differ in rank.
    kept = [rank - len(shape) + i for i in channels]
    others = [i for i in range(1, rank) if i not in kept]
    sizes = [ops.shape(x)[i] if x.shape[i] is None else x.shape[i] for i in others]
    count = int(np.prod([shape[i] for i in channels], dtype=int))
    axes = np.atleast_1d(axis).tolist()
    along = [x.shape[i] or 0 for i in others if i in axes or i - rank in axes]
    if kept:
        x = ops.transpose(x, [0, *others, *kept])
    x = ops.reshape(x, (ops.shape(x)[0], -1, count))
    ends = [ops.min(x, axis=1, keepdims=True), ops.max(x, axis=1, keepdims=True)]
    parts = [ops.ones_like(ends[0][:, :, :1]) * _batch_size(x), *ends]
    if not samples:
        return parts
    if not others:  # one number for each channel
        return [*parts, x]
    # Enough samples to see all channels along an axis of channels.
    enough = [size * min(2, len(others)) for size in along]
    return [*parts, _sampled(x, sizes, max([samples, *enough]))]


def _batch_size(x: Any) -> Any:
    """The number of examples of all replicas in a step, as training counts them."""
    size = ops.cast(ops.shape(x)[0], "float32")
    # On PyTorch each process calibrates separately.
    return size if keras.backend.backend() == "torch" else over_replicas(ops.sum, size)


def _sampled(x: Any, sizes: Sequence[Any], count: int) -> Any:
    """`count` numbers of each example and channel, padded with NaN if it has fewer.

    `x` is (examples, positions, channels), with axes of these sizes in the positions. The
    sample is a Latin hypercube: each axis is divided into `count` parts with one number
    from each. All positions are equally likely, and twice as many samples as channels
    include every channel, even if the sizes of the axes have common factors.
    """
    generator = np.random.default_rng(0)
    length, index = 1, np.zeros(count, "int32")
    for size in sizes:
        part = (generator.permutation(count) + generator.random(count)) / count
        if isinstance(size, int):
            place = (part * size).astype("int32")
        else:
            place = ops.cast(part.astype("float32") * ops.cast(size, "float32"), "int32")
            place = ops.minimum(place, size - 1)
        length, index = length * size, index * size + place
    order = np.arange(count, dtype="int32")
    index = ops.where(length <= count, ops.minimum(order, length - 1), index)
    missing = ops.reshape(order >= length, (1, -1, 1))
    return ops.where(missing, float("nan"), ops.take(x, index, axis=1))
