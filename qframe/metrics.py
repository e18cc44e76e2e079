"""Metrics of quantized training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.errors import ArgumentError

__all__ = ["FlipRatio"]


@keras.saving.register_keras_serializable("qframe")
class FlipRatio(keras.metrics.Metric):
    """The mean part of the values of a tensor that changed from one update to the next.

    An integer `values_dtype` compares levels: whole numbers, and the signs of all other
    numbers, such as signs times a scale. With a float one any change counts.

    `qframe.callbacks.QuantizationMetrics` measures it for the weights of a model.

    Args:
        values_dtype: the dtype of the stored values. Default ``"int8"``.
        name: the name of the metric. Default ``"flip_ratio"``.
        dtype: the dtype of the mean. Default None: Keras's default float.

    Raises:
        ArgumentError: `values_dtype` is not a dtype of numbers, or the shape changes.

    Example:
        >>> import qframe as qf
        >>> metric = qf.metrics.FlipRatio()
        >>> for values in ([1, 1], [2, 2], [1, 2]):
        ...     metric.update_state(values)
        >>> float(metric.result())
        0.75
    """

    def __init__(
        self, values_dtype: str = "int8", name: str = "flip_ratio", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        try:
            self.values_dtype = keras.backend.standardize_dtype(values_dtype)
        except ValueError:
            self.values_dtype = "none"
        if not self.values_dtype.startswith(("int", "uint", "float", "bfloat")):
            raise ArgumentError(
                f"values_dtype of FlipRatio must be a dtype of numbers, found "
                f"{values_dtype!r}. Write for example FlipRatio(values_dtype='int8')."
            )
        self.built = False

    def build(self, shape: Any) -> None:
        """Create the variables for tensors of a shape; the first update does it too."""
        self._previous = self.add_variable(
            shape, "zeros", self.values_dtype, name="previous"
        )
        self._started = self.add_variable((), "zeros", self.dtype, name="started")
        self.total = self.add_variable((), "zeros", self.dtype, name="total")
        self.count = self.add_variable((), "zeros", self.dtype, name="count")
        self.built = True

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Compare with the last values; `sample_weight` is for Keras, and unused."""
        levels = self._levels(ops.convert_to_tensor(values))
        if not self.built:
            self.build(levels.shape)
        if tuple(levels.shape) != tuple(self._previous.shape):
            raise ArgumentError(
                f"FlipRatio compares tensors of one shape, found {tuple(levels.shape)} "
                f"after {tuple(self._previous.shape)}. Take one metric for each tensor."
            )
        previous = ops.convert_to_tensor(self._previous)
        started = ops.convert_to_tensor(self._started)
        changed = ops.mean(ops.cast(ops.not_equal(previous, levels), self.dtype))
        self.total.assign_add(started * changed)
        self.count.assign_add(started)
        self._previous.assign(levels)
        self._started.assign(ops.ones_like(started))

    def _levels(self, values: Any) -> Any:
        if "float" in self.values_dtype:
            return ops.cast(values, self.values_dtype)
        if "float" in keras.backend.standardize_dtype(values.dtype):
            whole = ops.equal(values, ops.round(values))
            values = ops.where(whole, values, ops.sign(values))
        limits = np.iinfo(self.values_dtype)
        wide = ops.cast(values, "float32") if limits.bits < 32 else values
        return ops.cast(ops.clip(wide, limits.min, limits.max), self.values_dtype)

    def result(self) -> Any:
        """The mean; 0 before the second update."""
        if not self.built:
            return ops.zeros((), self.dtype)
        return ops.divide_no_nan(
            ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.count)
        )

    def reset_state(self) -> None:
        """Begin a new mean; the next update still compares with the last values."""
        if self.built:
            self.total.assign(0)
            self.count.assign(0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "values_dtype": self.values_dtype}
