"""Summaries of a tensor that are small enough to leave a step: its ends and a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.quantizers.replicas import over_replicas


def summary(x: Any, shape: tuple[int, ...], samples: int, axis: Any) -> list[Any]:
    """Of each example: the size of its batch, both ends, and samples if any are asked for.

    Each is (examples, 1 or more, 1 or channels), whatever the other sizes of `x`, so that
    batches of other sizes can be joined with it. Samples that are missing are NaN.

    Args:
        x: the tensor, with an axis of examples first.
        shape: of a range of it, as in `Quantizer.range_shape`.
        samples: the number of samples of an example; 0 for none.
        axis: the axis or axes of its channels.
    """
    x = ops.cast(x, "float32")
    rank, channels = len(x.shape), [i for i, size in enumerate(shape) if size != 1]
    # From the end, since a range of one rank may be of a tensor of another.
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
    if not others:  # one number of each channel
        return [*parts, x]
    # Along one axis of channels, all of them.
    enough = [size * min(2, len(others)) for size in along]
    return [*parts, _sampled(x, sizes, max([samples, *enough]))]


def _batch_size(x: Any) -> Any:
    """The number of examples of all replicas in a step, as training counts them."""
    size = ops.cast(ops.shape(x)[0], "float32")
    # On PyTorch each process calibrates by itself.
    return size if keras.backend.backend() == "torch" else over_replicas(ops.sum, size)


def _sampled(x: Any, sizes: Sequence[Any], count: int) -> Any:
    """`count` numbers of each example and channel; all, with NaN after them, if fewer.

    They are a Latin hypercube of the places: along each axis one within each `count`-th
    part of it. So each place is as likely as another, and twice as many samples as
    channels see every channel, wherever it is and whatever the sizes have in common.

    Args:
        x: the numbers, (examples, places, channels).
        sizes: of the axes that the places are along.
        count: how many numbers.
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
