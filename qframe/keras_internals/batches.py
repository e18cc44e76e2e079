"""The batches of data, as `Model.predict` reads them, outside of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from keras import ops, tree
from keras.src.trainers.epoch_iterator import EpochIterator
from keras.utils import unpack_x_y_sample_weight


def batches(data: Any, batch_size: int | None, steps: int | None) -> Iterator[Any]:
    """The inputs of each batch of data, as NumPy arrays in their structure.

    Raises:
        ValueError: Keras does not take such data.
    """
    return (x for x, _ in labelled_batches(data, batch_size, steps))


def labelled_batches(
    data: Any, batch_size: int | None, steps: int | None
) -> Iterator[tuple[Any, Any]]:
    """The inputs and labels of each batch of data, as NumPy arrays; labels may be None.

    Raises:
        ValueError: Keras does not take such data.
    """
    adapter = EpochIterator(
        x=data, batch_size=batch_size, steps_per_epoch=steps, shuffle=False
    ).data_adapter
    return _batches(adapter, steps)


def _batches(adapter: Any, steps: int | None) -> Iterator[tuple[Any, Any]]:
    adapter.on_epoch_begin()
    try:
        count = adapter.num_batches if steps is None else steps
        for batch in itertools.islice(adapter.get_numpy_iterator(), count):
            x, y, _ = unpack_x_y_sample_weight(batch)
            yield _arrays(x), None if y is None else _arrays(y)
    finally:
        adapter.on_epoch_end()


def _arrays(structure: Any) -> Any:
    return tree.map_structure(ops.convert_to_numpy, structure)


def flat_inputs(graph: Any, x: Any) -> list[Any]:
    """The inputs of a Keras function as NumPy arrays, in the order of the function.

    Raises:
        ValueError: they have another structure, or an array has another rank.
    """
    return [ops.convert_to_numpy(part) for part in graph._standardize_inputs(x)]
