"""The quantizers of a model in TensorBoard."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.callbacks.measuring import MEASURES, Flips, measured
from qframe.errors import ArgumentError, QFrameError
from qframe.layers.tree import iter_slots, quantized_weights
from qframe.quantizers import Quantizer
from qframe.validation import boolean, integer_within


class QuantizationLogger(keras.callbacks.Callback):
    """Writes statistics of the quantizers to a log for TensorBoard.

    For each quantized weight it writes the flips since the last entry, the saturation, the
    quantization error (see `qframe.callbacks.QuantizationMetrics`), and histograms of
    latent and quantized values. For each quantizer with a state, of activations too, it
    writes the mean of each variable, such as learned steps and gathered ranges.

    It needs ``pip install 'keras-qframe[tensorboard]'``, and no TensorFlow.

    Args:
        log_dir: the folder to write to; TensorBoard's ``--logdir``.
        update_freq: ``"epoch"``, the default, or a number of batches.
        histograms: whether to write histograms. Default True.

    Raises:
        ArgumentError: an argument is wrong; when training begins, no weight is quantized.
        QFrameError: tensorboard is not installed.

    Example:
        >>> import qframe as qf
        >>> callback = qf.callbacks.QuantizationLogger("logs", update_freq=100)
    """

    def __init__(
        self, log_dir: Any, update_freq: str | int = "epoch", histograms: bool = True
    ) -> None:
        super().__init__()
        owner = "QuantizationLogger"
        self.log_dir = str(log_dir)
        self.update_freq: str | int = "epoch"
        if update_freq != "epoch":
            if isinstance(update_freq, str):
                raise ArgumentError(
                    f"update_freq of {owner} must be 'epoch' or a number of batches, found "
                    f"{update_freq!r}."
                )
            self.update_freq = integer_within(owner, "update_freq", update_freq, 1, 10**9)
        self.histograms = boolean(owner, "histograms", histograms)

    def on_train_begin(self, logs: Any = None) -> None:
        weights = quantized_weights(self.model)
        self._writer = _Writer(self.log_dir)
        self._flips = Flips()
        self._flips.update(weights)
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self.update_freq != "epoch" and self._batches % int(self.update_freq) == 0:
            self._write(int(ops.convert_to_numpy(self.model.optimizer.iterations)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.update_freq == "epoch":
            self._write(epoch)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()

    def _write(self, step: int) -> None:
        weights = quantized_weights(self.model)
        self._flips.update(weights)
        for name, numbers in measured(weights, MEASURES, self._flips).items():
            for path, number in numbers.items():
                self._writer.scalar(f"{path}/{name}", number, step)
        for path, value in _states(self.model):
            self._writer.scalar(path, value, step)
        for weight in weights if self.histograms else ():
            path = weight.variable_path
            self._writer.histogram(f"{path}/latent", weight.latent_value(), step)
            self._writer.histogram(f"{path}/quantized", weight.quantized_value(), step)


def _states(model: Any) -> Iterator[tuple[str, float]]:
    """Yield the path and the mean of each variable of each quantizer."""
    for slot in iter_slots(model):
        if isinstance(slot.quantizer, Quantizer):
            path = f"{slot.path}/{slot.key}" if slot.name else slot.path
            for variable in slot.quantizer.weights:
                value = ops.convert_to_numpy(ops.cast(variable, "float32"))
                yield f"{path}/{variable.name}", float(np.mean(value))


class _Writer:
    """A writer of event files, by TensorBoard."""

    def __init__(self, log_dir: str) -> None:
        try:
            event_file, scalar, histogram, event = (
                importlib.import_module(f"tensorboard.{name}")
                for name in (
                    "summary.writer.event_file_writer",
                    "plugins.scalar.summary_v2",
                    "plugins.histogram.summary_v2",
                    "compat.proto.event_pb2",
                )
            )
        except ImportError as error:
            raise QFrameError(
                "QuantizationLogger writes with TensorBoard, which is not installed: "
                f"{error}. Write: pip install 'keras-qframe[tensorboard]'."
            ) from error
        self._scalar, self._histogram = scalar.scalar_pb, histogram.histogram_pb
        self._event = event.Event
        self._file = event_file.EventFileWriter(log_dir)
        self.flush, self.close = self._file.flush, self._file.close

    def scalar(self, tag: str, value: float, step: int) -> None:
        self._add(self._scalar(tag, value), step)

    def histogram(self, tag: str, values: Any, step: int) -> None:
        array = np.asarray(ops.convert_to_numpy(ops.cast(values, "float32")))
        self._add(self._histogram(tag, array), step)

    def _add(self, summary: Any, step: int) -> None:
        event = self._event(wall_time=time.time(), step=step, summary=summary)
        self._file.add_event(event)
