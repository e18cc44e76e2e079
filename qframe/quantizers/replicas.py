"""Statistics and state that the replicas of a model share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Reduce = Callable[..., Any]


def over_replicas(reduce: Reduce, value: Any) -> Any:
    """Reduce a value over all replicas that train together.

    Args:
        reduce: `keras.ops.min`, `max`, `mean` or any function of a tensor and ``axis``.
        value: a tensor, of one shape everywhere.

    Returns:
        The reduced value; `value` if one replica has the whole batch. This is always so
        on JAX, where a batch is one tensor on all devices.
    """
    parts = _of_replicas(value)
    return value if parts is None else reduce(parts, axis=0)


def replicated_weight(
    quantizer: Any, name: str, shape: tuple[int, ...] = (), trainable: bool = False
) -> Any:
    """Add a weight, zero at first, to which each replica assigns the same value."""
    return quantizer.add_weight(
        name=name,
        shape=shape,
        initializer="zeros",
        trainable=trainable,
        aggregation="only_first_replica",
    )


def _of_replicas(value: Any) -> Any:
    """The values of all replicas along a new first axis; None for a single replica."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # The context is None outside of the replicas, such as in the build of a model.
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            return context.all_gather(ops.expand_dims(value, 0), axis=0)
    elif backend == "torch":
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            parts = [ops.zeros_like(value) for _ in range(distributed.get_world_size())]
            distributed.all_gather(parts, value.detach().contiguous())
            return ops.stack(parts)
    return None
