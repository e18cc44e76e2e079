"""Batch-norm statistics of the present weights in each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from qframe.errors import ArgumentError
from qframe.observation.shapes import checked_batches
from qframe.passes import recalibrate_batchnorm


class RecalibrateBatchNorm(keras.callbacks.Callback):
    """Re-estimates batch-norm statistics at the end of each epoch.

    It calls `qframe.recalibrate_batchnorm` before each validation, so validation, the files
    saved in that epoch and the trained model have these statistics. In an epoch without
    validation it runs at the end, so place it before callbacks that save. Training does not
    change, since it normalizes each batch by its statistics; the moving statistics continue
    from the new ones.

    Args:
        data: as in `qframe.recalibrate_batchnorm`, except a generator: it is read in each
            epoch.
        batch_size: for arrays; default None is Keras's 32.
        steps: the number of batches; all by default.

    Raises:
        ArgumentError: the data can be read only once, or `batch_size` or `steps` is not a
            positive integer. When training begins: no batch
            normalization of the model can be re-estimated.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> x, y = np.ones((8, 2)), np.ones((8, 2))
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
        >>> model.compile("sgd", "mse")
        >>> callbacks = [qf.callbacks.RecalibrateBatchNorm(x)]
        >>> history = model.fit(x, y, callbacks=callbacks, verbose=0)
        >>> float(model.layers[0].moving_mean[0])
        1.0
    """

    def __init__(
        self, data: Any, *, batch_size: int | None = None, steps: int | None = None
    ) -> None:
        super().__init__()
        if isinstance(data, Iterator):
            raise ArgumentError(
                f"RecalibrateBatchNorm reads its data each epoch, and {data!r} can be read "
                "once. Give arrays, a tf.data.Dataset or a keras.utils.PyDataset."
            )
        self.batch_size, self.steps = checked_batches(batch_size, steps)
        self.data = data
        self._epoch_done: bool | None = None  # None outside of training

    def set_model(self, model: Any) -> None:
        # `fit` and `evaluate` call it first; an earlier `fit` may have failed.
        super().set_model(model)
        self._epoch_done = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_done = False

    def on_test_begin(self, logs: Any = None) -> None:
        self._recalibrate()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._recalibrate()
        self._epoch_done = None

    def _recalibrate(self) -> None:
        # `evaluate` outside of training does not change the model.
        if self._epoch_done is False:
            recalibrate_batchnorm(
                self.model,
                self.data,
                batch_size=self.batch_size,
                steps=self.steps,
                verbose=0,
            )
            self._epoch_done = True
