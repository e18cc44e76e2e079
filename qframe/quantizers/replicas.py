"""What the replicas of a model agree on while each of them sees a part of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Reduce = Callable[..., Any]


def over_replicas(reduce: Reduce, value: Any) -> Any:
    """One value for all replicas that train together, from the value that each has.

    Args:
        reduce: `keras.ops.min`, `max`, `mean` or any function of a tensor and ``axis``.
        value: a tensor, of one shape everywhere.

    Returns:
        What `reduce` makes of the values; `value` itself where one replica has the batch.
        So it is on JAX, where a batch is one tensor, wherever its parts are.
    """
    parts = _of_replicas(value)
    return value if parts is None else reduce(parts, axis=0)


def _of_replicas(value: Any) -> Any:
    """The values of all replicas along a new first axis; None if there is but one."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # None outside of the replicas, as where a model is built.
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
