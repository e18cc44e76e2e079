"""Runs a model over data as `Model.predict` does, to see what happens within."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.errors import DataError
from qframe.layers.traces import traced_anew
from qframe.passes.progress import Progress

Found = dict[str, list[NDArray[Any]]]
# Of the arguments of a step: a scope that gives a function of what was seen in it.
Watch = Callable[..., contextlib.AbstractContextManager[Callable[[], Any]]]


def seen_in_steps(
    model: Any,
    watch: Watch,
    data: Any,
    *,
    batch_size: int | None,
    steps: int | None,
    verbose: Any,
    purpose: str,
) -> Found:
    """What `watch` sees in the steps of `predict`, joined along the first axis.

    Args:
        model: a model that was built.
        watch: makes the scope of a step from its arguments.
        data: as in `Model.predict`, like `batch_size` and `steps`.
        batch_size: the number of examples in a batch.
        steps: the number of batches.
        verbose: as in `Model.predict`, but for ``"auto"``, which is a bar of our own.
        purpose: the use of the data, for the bar and for errors.

    Raises:
        DataError: there is no batch.
    """
    predict_step = model.predict_step
    reached = []

    def step(*args: Any) -> Any:
        reached.append(True)
        with watch(*args) as seen:
            result = predict_step(*args)
        if keras.backend.backend() != "jax":
            return seen()
        # On JAX a step returns the state too.
        return tree.map_structure(_whole, seen()), result[1]

    with _stepping(model, step), Progress(purpose) as progress:
        own = verbose == "auto"
        try:
            found: Found = model.predict(
                data,
                batch_size=batch_size,
                steps=steps,
                verbose=0 if own else verbose,
                callbacks=[progress] if own else None,
            )
        except (UnboundLocalError, TypeError) as error:
            if reached:
                raise
            # Keras's own, where there is no batch.
            raise DataError(f"the {purpose} data is empty.") from error
    return found


def _whole(tensor: Any) -> Any:
    """A tensor of which each device of a distribution has all, not a part of its own.

    Keras cannot read what is partly in another process.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensor
    layout = keras.distribution.TensorLayout(
        [None] * len(tensor.shape), distribution.device_mesh
    )
    return keras.distribution.distribute_tensor(tensor, layout)


@contextlib.contextmanager
def _stepping(model: Any, step: Any) -> Iterator[None]:
    """Let `predict` make other steps; and trace its calls anew, now and afterwards."""
    before = model.__dict__.get("predict_step")
    with traced_anew([model]), keras_internals.kept_on_jax(model):
        model.predict_step = step
        try:
            yield
        finally:
            del model.predict_step
            if before is not None:
                model.predict_step = before
