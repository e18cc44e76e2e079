"""Runs a model over data as `Model.predict` does, with an observer in each step."""

from __future__ import annotations

import copy
from typing import Any

import keras
from keras import tree
from numpy.typing import NDArray

from qframe import context, keras_internals
from qframe.errors import DataError
from qframe.layers.traces import traced_anew
from qframe.layers.tree import Site, sites
from qframe.observation.observer import Observer
from qframe.observation.progress import Progress

Notes = dict[str, list[NDArray[Any]]]

# The layers in them are called in a loop over time, or once for each step of it.
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
        observer: the hooks; each step has a copy.
        purpose: the use of the data, for the progress bar and for errors.
        batch_size: the number of examples in a batch. Default None: 32 of arrays.
        steps: the number of batches. Default None: all.
        verbose: as in `Model.predict`. Default ``"auto"``: a bar on standard error, if that
            is a terminal, once it takes two seconds.

    Returns:
        The notes of all steps by their keys, joined along the first axis.

    Raises:
        DataError: there is no batch.
    """
    keras_internals.intercept_calls()
    predict_step, scope = model.predict_step, context.current()
    reached = []

    def step(*args: Any) -> Any:
        reached.append(True)
        # A step of a replica is in a thread without the scope of the caller.
        each = copy.copy(observer)
        with context.entered(scope._replace(observer=each)):
            each.begin(model, args)
            result = predict_step(*args)
            notes = each.notes()
        if keras.backend.backend() != "jax":
            return notes
        # On JAX a step returns the state too.
        return tree.map_structure(_whole, notes), result[1]

    with (
        traced_anew([model]),
        keras_internals.kept_on_jax(model),
        keras_internals.predicting_with(model, step),
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
            if reached:
                raise
            # Keras raises these where there is no batch.
            raise DataError(f"the {purpose} data is empty.") from error
    return notes


def observable_sites(model: Any) -> list[Site]:
    """The layers of a model whose inputs and outputs can be noted: none over time."""
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
    """A tensor that each device of a distribution has all of.

    Keras cannot read one that is partly in another process.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensor
    layout = keras.distribution.TensorLayout(
        [None] * len(tensor.shape), distribution.device_mesh
    )
    return keras.distribution.distribute_tensor(tensor, layout)
