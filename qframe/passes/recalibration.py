"""Re-estimate the statistics of batch normalization from data."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import context, keras_internals, observation
from qframe.errors import ArgumentError, DataError, NotBuiltError
from qframe.layers.tree import Site, sites, within
from qframe.passes.report import Report, Row

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
    """Re-estimate the statistics of every batch normalization, without training.

    Running averages lag behind weights that flip, which costs a binary network accuracy.
    Here the weights do not change: each batch normalization normalizes by the statistics
    of its batch, as in training. Its moving mean and variance become the averages of these
    over all batches, weighted by the size of the batch. As in Keras they are averages of
    biased variances. All other layers run as in inference: dropout is off, and quantizers
    draw no random numbers and keep their state.

    Pass batches as in training: mixed, and not much smaller. The result depends only on
    how the examples are put together in batches.

    Args:
        model: a built `keras.Model` with `keras.layers.BatchNormalization` or subclasses
            of it, compiled or not.
        data: what `Model.predict` takes: arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator. Targets in it are ignored.
        batch_size: for arrays; default None is Keras's 32.
        steps: the number of batches; all by default. About ten thousand examples do.
        verbose: 1 for the progress bar of `Model.predict`, 0 for none. Default ``"auto"``:
            one on standard error, if that is a terminal, once it takes two seconds.

    Returns:
        How far the statistics of each layer moved, and the layers that were not changed,
        with the reason: training runs them in inference mode too, as with
        ``trainable=False``; they have ``renorm=True``; no call reaches them.

    Raises:
        ArgumentError: no batch normalization of the model can be re-estimated.
        NotBuiltError: a batch normalization is not built yet.
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
    normalizations, reasons = _normalizations(model)
    candidates = {k: s.layer for k, s in normalizations.items() if s.path not in reasons}
    notes: dict[str, list[Any]] = {}
    if candidates:
        observer = _StatisticsObserver(candidates)
        run = {"batch_size": batch_size, "steps": steps, "verbose": verbose}
        with _without_momentum(candidates.values()):
            notes = observation.run(model, data, observer, purpose="recalibration", **run)
        for key in candidates.keys() - notes.keys():
            called = key in observer.modes
            reasons[normalizations[key].path] = _INFERENCE if called else _UNREACHED
    if not notes:
        text = " ".join(f"{path!r}: {reason}." for path, reason in reasons.items())
        raise ArgumentError(
            f"no batch normalization of {model.name!r} can be re-estimated. {text}"
        )
    averages = {key: _average(normalizations[key], parts) for key, parts in notes.items()}
    rows = []
    for key, site in normalizations.items():
        kind = type(site.layer).__name__
        changes = _assign(site.layer, *averages[key]) if key in averages else {}
        rows.append(Row(site.path, kind, changes, reasons.get(site.path, "")))
    return Recalibration(f"{model.name} recalibrated", tuple(rows))


def _normalizations(model: Any) -> tuple[dict[str, Site], dict[str, str]]:
    """Return the batch normalizations by a key, and the reasons to skip some by path."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"recalibrate_batchnorm takes a keras.Model, found {model!r}.")
    normalizations: dict[str, Site] = {}
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
        normalizations[f"{len(normalizations)}"] = site
        if id(layer) in looped:
            reasons[site.path] = "it is within a loop over time"
        elif not layer.trainable:
            reasons[site.path] = f"trainable=False: {_INFERENCE}"
        elif getattr(layer, "renorm", False):
            reasons[site.path] = "renorm=True: it trains with its running averages"
    if not normalizations:
        raise ArgumentError(
            f"{model.name!r} has no keras.layers.BatchNormalization to recalibrate."
        )
    return normalizations, reasons


class _StatisticsObserver(observation.Observer):
    """Notes the batch statistics of the layers that training runs in training mode.

    The statistics of a call are the mean, the variance, and the inputs per channel.

    Args:
        layers: the layers by a key.
    """

    def __init__(self, layers: Mapping[str, Any]) -> None:
        self._keys = {id(layer): key for key, layer in layers.items()}
        # By key, whether training runs a layer that it reaches in training mode.
        self.modes: dict[str, bool] = {}

    def begin(self, model: Any, args: tuple[Any, ...]) -> None:
        super().begin(model, args)
        self._probing = not self.modes
        if self._probing:
            # One replica makes this call and the others do not, so nothing may update.
            with context.scoped(frozen=True):
                _call_in_training(model, args)
            self._probing = False

    def in_loop(self) -> observation.Observer:
        return self  # `_normalizations` skips layers in loops, which notes cannot leave

    def on_layer(self, layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        key = self._keys.get(id(layer), "")
        if not key or not (self._probing or self.modes.get(key)):
            return call(*args, **kwargs)
        bound = inspect.signature(layer.call).bind(*args, **kwargs)
        if self._probing:
            training = bool(bound.arguments.get("training"))
            self.modes[key] = self.modes.get(key, False) or training
            # Inference has outputs of the same shape, and devices share no statistics.
            bound.arguments["training"] = False
            return call(*bound.args, **bound.kwargs)
        outputs, statistics = _in_training(layer, call, bound)
        self.note(key, *(ops.expand_dims(ops.cast(s, "float32"), 0) for s in statistics))
        return outputs


def _call_in_training(model: Any, args: tuple[Any, ...]) -> None:
    """Call a model in training mode without changing its variables.

    The call shows layers that run in inference mode even then, as fine-tuning has them:
    ``batchnorm(x, training=False)``.
    """
    if len(args) == 2:  # on JAX, which has taken the values out of the variables
        state, data = args[0][:2], args[1]
    else:
        lists = (model.trainable_variables, model.non_trainable_variables)
        state = [[keras_internals.latent_value(v) for v in each] for each in lists]
        (data,) = args
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    training = {"training": True} if keras_internals.takes_training(model) else {}
    model.stateless_call(*state, x, **training)


@contextlib.contextmanager
def _without_momentum(layers: Iterable[Any]) -> Iterator[None]:
    """Set the momentum to 0, so that the update of Keras stores the batch statistics."""
    before = [(layer, layer.momentum) for layer in layers]
    for layer, _ in before:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in before:
            layer.momentum = momentum


def _in_training(
    layer: Any, call: Any, bound: inspect.BoundArguments
) -> tuple[Any, list[Any]]:
    """Call a layer in training mode; return its outputs and the batch statistics."""
    inputs = next(iter(bound.arguments.values()))
    bound.arguments["training"] = True
    moving = layer.moving_mean, layer.moving_variance
    state = [(v, v.value) for v in layer.variables]
    with keras.StatelessScope(
        [*state, *((v, ops.zeros(v.shape, v.dtype)) for v in moving)]
    ) as scope:
        outputs = call(*bound.args, **bound.kwargs)
        statistics = [scope.get_current_value(v) for v in moving]
    return outputs, [*statistics, _count(layer, inputs, bound.arguments.get("mask"))]


def _count(layer: Any, inputs: Any, mask: Any) -> Any:
    """Return the number of inputs per channel."""
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
    fractions = (counts / counts.sum())[:, None]
    return (means * fractions).sum(0), (variances * fractions).sum(0)


def _assign(layer: Any, mean: Array, variance: Array) -> dict[str, str]:
    """Set the statistics of a layer and describe how far they moved."""
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
