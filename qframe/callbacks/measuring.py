"""Statistics of the quantized weights of a model, in the logs of `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.layers.slots import Slot
from qframe.layers.tree import quantized_weights
from qframe.metrics import FlipRatio
from qframe.quantizers import Quantizer
from qframe.validation import boolean, one_of

MEASURES = ("flip_ratio", "saturation", "quantization_error")


def _affine(slot: Slot) -> Any:
    quantizer = slot.quantizer
    if not isinstance(quantizer, Quantizer):
        return None
    axis = {"channel_axis": slot.channel_axis} if quantizer.traits.channelwise else {}
    return quantizer.affine(slot.latent_value(), **axis)


def levels(slot: Slot) -> Any:
    """Return quantized values without their scale, whose changes are not flips."""
    values, affine = ops.cast(slot.quantized_value(), "float32"), _affine(slot)
    if affine is not None:
        scale, zero = (ops.cast(part, "float32") for part in affine)
        divisor = ops.where(ops.equal(scale, 0), ops.ones_like(scale), scale)
        return ops.round(values / divisor + zero)
    bits = getattr(slot.quantizer, "precision", None)
    # Up to three values, such as a scale for each sign.
    return ops.sign(values) if bits in (1, 2) else values


def saturation(slot: Slot) -> float | None:
    """Return the part of the latent weights beyond the gradient, or beyond the grid."""
    traits = getattr(slot.quantizer, "traits", None)
    if traits is None or (traits.support is None and traits.range is None):
        return None
    size, (low, high) = _array(slot.latent_value()), traits.support or traits.range
    if traits.support is None and traits.scaled:
        affine = _affine(slot)
        if affine is None:
            return None
        low, high = (end * _array(affine[0]) for end in (low, high))
    return float(np.mean((size < low) | (size > high)))


def error(slot: Slot) -> float:
    """Return the squared quantization error relative to the squared weights."""
    weights, values = _array(slot.latent_value()), _array(slot.quantized_value())
    power = float(np.square(weights).sum())
    return float(np.square(weights - values).sum()) / power if power else 0.0


def _array(tensor: Any) -> NDArray[np.float64]:
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")), np.float64)


class Flips:
    """The part of each weight that flips, by path."""

    def __init__(self) -> None:
        self._metrics: dict[str, FlipRatio] = {}

    def update(self, weights: list[Slot]) -> None:
        """Compare weights with the last update."""
        for weight in weights:
            # Levels are integers, or values without a grid, so that any change is a flip.
            metric = self._metrics.setdefault(weight.variable_path, FlipRatio("float32"))
            metric.update_state(levels(weight))

    def results(self) -> dict[str, float]:
        """Return the mean part that flipped per update, since the last call."""
        results = {path: float(m.result()) for path, m in self._metrics.items()}
        for metric in self._metrics.values():
            metric.reset_state()
        return results


class QuantizationMetrics(keras.callbacks.Callback):
    """Adds statistics of the quantized weights to the logs of each epoch.

    They are in the output of `fit`, in its history, and in the logs of later callbacks such
    as `keras.callbacks.CSVLogger`. Each is the mean over all quantized weights.

    ``flip_ratio`` is the part of the quantized weights whose levels change; a change of the
    scale is not a flip. ``saturation`` is the part of the latent weights beyond the support
    of the surrogate gradient, or else beyond the grid. ``quantization_error`` is the
    squared difference between latent and quantized weights relative to the squared latent
    weights.

    Args:
        metrics: the names of metrics. Default: all.
        flips: ``"step"``, the default, is the mean over the steps of an epoch;
            ``"epoch"`` compares with the previous epoch, and costs less.
        per_layer: add the statistics of each weight too, such as
            ``"dense/kernel/flip_ratio"``. Default False.

    Raises:
        ArgumentError: an argument is wrong; when training begins, no weight is quantized.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> dense = qf.layers.QuantDense(
        ...     1, kernel_quantizer="ste_sign", kernel_constraint="weight_clip"
        ... )
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> callbacks = [qf.callbacks.QuantizationMetrics(["flip_ratio"])]
        >>> history = model.fit(x, y, callbacks=callbacks, verbose=0)
        >>> 0 <= history.history["flip_ratio"][0] <= 1
        True
    """

    def __init__(
        self, metrics: Any = MEASURES, flips: str = "step", per_layer: bool = False
    ) -> None:
        super().__init__()
        owner = "QuantizationMetrics"
        names = [metrics] if isinstance(metrics, str) else metrics
        self.metrics = [one_of(owner, "metrics", name, MEASURES) for name in names]
        self.flips = one_of(owner, "flips", flips, ("step", "epoch"))
        self.per_layer = boolean(owner, "per_layer", per_layer)

    def on_train_begin(self, logs: Any = None) -> None:
        self._flips = Flips()
        self._update(quantized_weights(self.model))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.flips == "step" and "flip_ratio" in self.metrics:
            self._update(quantized_weights(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        weights = quantized_weights(self.model)
        if self.flips == "epoch":
            self._update(weights)
        results = measured(weights, self.metrics, self._flips)
        if logs is None:
            return
        sizes = {w.variable_path: int(np.prod(w.variable.shape)) for w in weights}
        for name, numbers in results.items():
            if numbers:
                counts = [sizes[path] for path in numbers]
                logs[name] = float(np.average(list(numbers.values()), weights=counts))
        for name, numbers in results.items() if self.per_layer else ():
            logs.update({f"{path}/{name}": v for path, v in numbers.items()})

    def _update(self, weights: list[Slot]) -> None:
        if "flip_ratio" in self.metrics:
            self._flips.update(weights)


def measured(weights: list[Slot], names: Any, flips: Flips) -> dict[str, dict[str, float]]:
    """Return the statistics by name and by path of the weight."""
    results: dict[str, dict[str, float]] = {}
    for name in names:
        if name == "flip_ratio":
            known = {weight.variable_path for weight in weights}
            results[name] = {p: v for p, v in flips.results().items() if p in known}
        elif name == "saturation":
            parts = {weight.variable_path: saturation(weight) for weight in weights}
            results[name] = {path: v for path, v in parts.items() if v is not None}
        else:
            results[name] = {weight.variable_path: error(weight) for weight in weights}
    return results
