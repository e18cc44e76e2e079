"""Runs over data by `Model.predict`, with an observer in each step."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree
from numpy.typing import NDArray

from qframe import context, keras_internals
from qframe.errors import DataError
from qframe.layers.traces import retraced
from qframe.layers.tree import Site, sites
from qframe.observation.observer import Observer
from qframe.observation.progress import Progress
from qframe.observation.shapes import check_data, checked_batches

Notes = dict[str, list[NDArray[Any]]]

# Layers that call the layers in them at every time step.
_OVER_TIME = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)


def run(
    model: Any,
    data: Any,
    observer: Observer,
    *,
    purpose: str = "observation",
    batch_size: int | None = None,
    steps: int | None = None,
    verbose: Any = "auto",
) -> Notes:
    """Run a model over data, with an observer of its layers and quantizers.

    Args:
        model: a built model.
        data: as in `Model.predict`, like `batch_size` and `steps`.
        observer: the hooks; each step uses a copy.
        purpose: the use of the data, for the progress bar and for errors.
        batch_size: the number of examples in a batch. Default None: 32 of arrays.
        steps: the number of batches. Default None: all.
        verbose: as in `Model.predict`. Default ``"auto"``: a bar on standard error, if that
            is a terminal, once it takes two seconds.

    Returns:
        The notes of all steps by their keys, joined along the first axis.

    Raises:
        ArgumentError: `batch_size` or `steps` is not a positive integer.
        DataError: there is no batch, or the data is none for the model.
    """
    batch_size, steps = checked_batches(batch_size, steps)
    check_data(model, data, purpose)
    with (
        observed_steps(model, observer) as seen,
        Progress(purpose) as progress,
    ):
        bar = verbose == "auto"
        try:
            notes: Notes = model.predict(
                data,
                batch_size=batch_size,
                steps=steps,
                verbose=0 if bar else verbose,
                callbacks=[progress] if bar else None,
            )
        except (UnboundLocalError, TypeError) as error:
            if seen:
                raise
            # Keras raises these if the data has no batch.
            raise DataError(f"the {purpose} data is empty.") from error
    return notes


@contextlib.contextmanager
def observed_steps(model: Any, observer: Observer) -> Iterator[list[None]]:
    """Let `predict` and `predict_on_batch` return the notes of an observer.

    Args:
        model: a built model.
        observer: the hooks; each step uses a copy.

    Returns:
        A context manager of a list, which is empty until the first batch arrives.
    """
    predict_step, scope = model.predict_step, context.current()
    seen: list[None] = []

    def step(*args: Any) -> Any:
        step_observer = copy.copy(observer)
        seen.append(None)
        # A step of a replica runs in a thread without the scope of the caller.
        with context.scoped(**scope._replace(observer=step_observer)._asdict()):
            step_observer.begin(model, args)
            result = predict_step(*args)
            notes = step_observer.notes()
        if keras.backend.backend() != "jax":
            return notes
        # On JAX a step returns the state too.
        return tree.map_structure(_whole, notes), result[1]

    with (
        retraced([model]),
        keras_internals.restored_on_failure(model),
        keras_internals.calls_observed(model, *observer.others),
        keras_internals.predicting_with(model, step),
    ):
        yield seen


def observable_sites(model: Any) -> list[Site]:
    """The layers of a model outside of loops over time, which can be observed."""
    observable: list[Site] = []
    over_time: tuple[str, ...] = ()
    for site in sites(model):
        skipped = site.layer is model or isinstance(site.layer, keras.layers.InputLayer)
        if skipped or site.path.startswith(over_time):
            continue
        if isinstance(site.layer, _OVER_TIME):
            over_time = (*over_time, f"{site.path}/")
        observable.append(site)
    return observable


def _whole(tensor: Any) -> Any:
    """A copy of the whole tensor on each device of a distribution.

    Keras cannot read a tensor with parts in another process.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensor
    layout = keras.distribution.TensorLayout(
        [None] * len(tensor.shape), distribution.device_mesh
    )
    return keras.distribution.distribute_tensor(tensor, layout)
