"""The statistics of batch normalization, estimated anew from data."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, NotBuiltError
from qframe.layers.tree import Site, sites, within
from qframe.passes.report import Report, Row
from qframe.passes.stepping import Found, seen_in_steps
from qframe.quantizers import holding

Array = NDArray[np.float64]

_INFERENCE = "training runs it in inference mode too"
_UNREACHED = "no call of the model reaches it"


@attrs.frozen
class Recalibration(Report):
    """The batch normalizations of a model, and how far their statistics moved."""

    column: ClassVar[str] = "Statistics"
    done: ClassVar[str] = "batch normalizations re-estimated"

    @property
    def recalibrated(self) -> tuple[Row, ...]:
        """The layers with new statistics."""
        return self.quantized


def recalibrate_batchnorm(
    model: Any,
    data: Any,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    verbose: Any = "auto",
) -> Recalibration:
    """Estimate the statistics of every batch normalization anew, without training.

    Running averages lag behind weights that flip, and a binary network pays for it in
    accuracy. Here the weights stand still: each batch normalization normalizes by the
    statistics of its batch, as in training, and its moving mean and variance become the
    averages of these over all batches, each batch counting by its size. Like Keras's own
    they are averages of biased variances of batches. All else runs as in inference:
    dropout is off, and quantizers draw no random numbers and keep their state.

    Give batches as in training: mixed, and not much smaller. The result depends on how
    the examples are put together in batches, and on nothing else.

    Args:
        model: a built `keras.Model` with `keras.layers.BatchNormalization` or subclasses
            of it, compiled or not.
        data: what `Model.predict` takes: arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator. Targets in it are ignored.
        batch_size: for arrays; default None is Keras's 32.
        steps: how many batches; all by default. Some ten thousand examples do.
        verbose: 1 for the progress bar of `Model.predict`, 0 for none. Default ``"auto"``:
            one on standard error, if that is a terminal, once it takes two seconds.

    Returns:
        By how much each layer's statistics moved; and the layers that were left as they
        are, with the reason: those that training runs in inference mode too, as under
        ``trainable=False``, those with ``renorm=True``, those that no call reaches.

    Raises:
        ArgumentError: no batch normalization of the model can be re-estimated.
        NotBuiltError: one is not built yet.
        DataError: the data is empty, or leads to NaN or infinity. No statistics were
            changed then.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> normalize = keras.layers.BatchNormalization()
        >>> model = keras.Sequential([keras.Input((1,)), normalize])
        >>> report = qf.recalibrate_batchnorm(model, np.array([[1.0], [3.0]]), verbose=0)
        >>> [float(v[0]) for v in (normalize.moving_mean, normalize.moving_variance)]
        [2.0, 1.0]

    Paper: Wu and Johnson, 2021, https://arxiv.org/abs/2105.07576, section 3
    """
    held, reasons = _held(model)
    open_ = {k: site.layer for k, site in held.items() if site.path not in reasons}
    found: Found = {}
    if open_:
        found, modes = _estimates(model, open_, data, batch_size, steps, verbose)
        for key in open_.keys() - found.keys():
            reasons[held[key].path] = _INFERENCE if key in modes else _UNREACHED
    if not found:
        told = " ".join(f"{path!r}: {reason}." for path, reason in reasons.items())
        raise ArgumentError(
            f"no batch normalization of {model.name!r} can be re-estimated. {told}"
        )
    averages = {key: _average(held[key], parts) for key, parts in found.items()}
    rows = []
    for key, site in held.items():
        kind = type(site.layer).__name__
        words = _assign(site.layer, *averages[key]) if key in averages else {}
        rows.append(Row(site.path, kind, words, reasons.get(site.path, "")))
    return Recalibration(f"{model.name} recalibrated", tuple(rows))


def _held(model: Any) -> tuple[dict[str, Site], dict[str, str]]:
    """The batch normalizations by a key; and why some are left as they are, by path."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"recalibrate_batchnorm takes a keras.Model, found {model!r}.")
    held: dict[str, Site] = {}
    reasons: dict[str, str] = {}
    looped: set[int] = set()
    for site in sites(model):
        layer = site.layer
        if isinstance(layer, keras.layers.RNN) and not layer.unroll:
            looped |= {id(inner.layer) for inner in within(layer)}
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        if not layer.built:
            raise NotBuiltError(
                f"{site.path!r} is not built and has no statistics. Call the model once: "
                "model(inputs)."
            )
        held[f"{len(held)}"] = site
        if id(layer) in looped:
            reasons[site.path] = "it is within a loop over time"
        elif not layer.trainable:
            reasons[site.path] = f"trainable=False: {_INFERENCE}"
        elif getattr(layer, "renorm", False):
            reasons[site.path] = "renorm=True: it trains with its running averages"
    if not held:
        raise ArgumentError(
            f"{model.name!r} has no keras.layers.BatchNormalization to recalibrate."
        )
    return held, reasons


def _estimates(
    model: Any,
    layers: Mapping[str, Any],
    data: Any,
    batch_size: int | None,
    steps: int | None,
    verbose: Any,
) -> tuple[Found, dict[str, bool]]:
    """Of each call in each batch: the mean, the variance, and of how many numbers.

    And whether training runs each layer that it calls in its training mode.
    """
    modes: dict[str, bool] = {}
    here = _Here()

    @contextlib.contextmanager
    def watch(*args: Any) -> Iterator[Any]:
        if not modes:
            here.modes = modes
            try:
                _train(model, args)
            finally:
                here.modes = None
        parts: dict[str, list[list[Any]]] = {key: [] for key, on in modes.items() if on}
        here.parts = parts
        try:
            yield lambda: {
                key: [ops.concatenate(each, axis=0) for each in zip(*calls, strict=True)]
                for key, calls in parts.items()
                if calls
            }
        finally:
            here.parts = {}

    with contextlib.ExitStack() as stack:
        for key, layer in layers.items():
            stack.enter_context(_watched(layer, key, here))
        found = seen_in_steps(
            model,
            watch,
            data,
            batch_size=batch_size,
            steps=steps,
            verbose=verbose,
            purpose="recalibration",
        )
    return found, modes


class _Here(threading.local):
    """What is noted of the calls in this thread; one for each device runs a step."""

    def __init__(self) -> None:
        # Whether each layer is in its training mode; None where that is not asked.
        self.modes: dict[str, bool] | None = None
        # By the layers to estimate: of each call the mean, the variance and the count.
        self.parts: dict[str, list[list[Any]]] = {}


def _train(model: Any, args: tuple[Any, ...]) -> None:
    """Call a model as training does, writing to nothing.

    So it shows where a model says ``batchnorm(x, training=False)``, to fine-tune one.
    """
    if len(args) == 2:  # on JAX, which has taken the values out of the variables
        state, data = args[0][:2], args[1]
    else:
        lists = (model.trainable_variables, model.non_trainable_variables)
        state = [[keras_internals.latent_value(v) for v in held] for held in lists]
        (data,) = args
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    training = {"training": True} if keras_internals.takes_training(model) else {}
    # One replica calls it, and the others do not.
    with holding.held():
        model.stateless_call(*state, x, **training)


@contextlib.contextmanager
def _watched(layer: Any, key: str, here: _Here) -> Iterator[None]:
    """Let a layer note its calls, and normalize by its batches where it is estimated."""
    call, momentum = layer.call, layer.momentum

    def watched(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(call).bind(*args, **kwargs)
        if here.modes is not None:
            training = bool(bound.arguments.get("training"))
            here.modes[key] = here.modes.get(key, False) or training
            # Of the right shape, without statistics to share between devices.
            bound.arguments["training"] = False
        elif key in here.parts:
            return _estimated(layer, call, bound, here.parts[key])
        return call(*bound.args, **bound.kwargs)

    layer.__dict__["call"] = watched
    layer.momentum = 0.0
    try:
        yield
    finally:
        layer.momentum = momentum
        del layer.__dict__["call"]


def _estimated(
    layer: Any, call: Any, bound: inspect.BoundArguments, noted: list[list[Any]]
) -> Any:
    """Call a layer in its training mode, and note the statistics of the batch."""
    inputs = next(iter(bound.arguments.values()))
    bound.arguments["training"] = True
    moving = layer.moving_mean, layer.moving_variance
    state = [(v, v.value) for v in layer.variables]
    # Under a momentum of 0 Keras's own update makes these those of the batch.
    with keras.StatelessScope(
        [*state, *((v, ops.zeros(v.shape, v.dtype)) for v in moving)]
    ) as scope:
        outputs = call(*bound.args, **bound.kwargs)
        statistics = [scope.get_current_value(v) for v in moving]
    parts = (*statistics, _count(layer, inputs, bound.arguments.get("mask")))
    noted.append([ops.expand_dims(ops.cast(part, "float32"), 0) for part in parts])
    return outputs


def _count(layer: Any, inputs: Any, mask: Any) -> Any:
    """Of how many numbers the statistics of each channel are."""
    if mask is not None:
        return ops.sum(ops.cast(mask, "float32"))
    return ops.size(inputs) / inputs.shape[layer.axis]


def _average(site: Site, parts: list[Any]) -> tuple[Array, Array]:
    means, variances, counts = (np.asarray(part, np.float64) for part in parts)
    if not (np.isfinite(means).all() and np.isfinite(variances).all()):
        raise DataError(
            f"NaN or infinity reached {site.path!r}. Look for it in the data and in the "
            "weights; no statistics were changed."
        )
    if not counts.sum():
        raise DataError(
            f"all that reached {site.path!r} is masked; no statistics were changed."
        )
    shares = (counts / counts.sum())[:, None]
    return (means * shares).sum(0), (variances * shares).sum(0)


def _assign(layer: Any, mean: Array, variance: Array) -> dict[str, str]:
    """Set the statistics of a layer; how far they moved."""
    before = [
        np.asarray(ops.convert_to_numpy(ops.cast(v, "float32")), np.float64)
        for v in (layer.moving_mean, layer.moving_variance)
    ]
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    deviation = np.sqrt(variance + layer.epsilon)
    shift = np.abs(mean - before[0]) / deviation
    ratio = (variance + layer.epsilon) / (before[1] + layer.epsilon)
    return {
        "moving_mean": f"moved by up to {shift.max():.3g} standard deviations",
        "moving_variance": f"{ratio.min():.3g} to {ratio.max():.3g} times what it was",
    }
