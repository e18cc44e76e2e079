"""A learned parameter of a quantizer, which starts from the first batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from qframe import context
from qframe.quantizers.replicas import replicated_weight


class Learned:
    r"""A parameter that a quantizer learns, of the tensor or of each channel.

    .. math:: p = p_0 + \delta

    The start p₀ is a statistic of the first batch of training, averaged over replicas;
    before training it is that of the input. The change δ, zero at first, is the trainable
    variable. It has the gradient of p. The scaling and decay of an optimizer apply to the
    change. A call assigns no trainable variable, which JAX does not allow.

    Args:
        quantizer: the quantizer, in its ``build``.
        name: the name of the trainable variable.
        shape: the shape of the parameter. Default (), a number.

    Example:
        >>> import keras, qframe as qf
        >>> from qframe.quantizers import Learned, Quantizer
        >>> class Scale(Quantizer):
        ...     def build(self, shape):
        ...         self.factor = Learned(self, "factor")
        ...     def call(self, inputs, training=False):
        ...         return inputs / self.factor(keras.ops.max(inputs), training)
        >>> scale = Scale()
        >>> float(scale([1.0, 4.0], training=True)[1]), float(scale([2.0])[0])
        (1.0, 0.5)
    """

    def __init__(self, quantizer: Any, name: str, shape: tuple[int, ...] = ()) -> None:
        self._of_batch = quantizer.of_batch
        self.change = replicated_weight(quantizer, name, shape, trainable=True)
        self.start = replicated_weight(quantizer, f"{name}_start", shape)
        self.started = replicated_weight(quantizer, f"{name}_started")

    def __call__(self, statistic: Any, training: bool = False) -> Any:
        """The parameter, which starts from `statistic` if it has not started yet."""
        # Some functions of JAX do not accept Keras variables.
        variables = self.started, self.start, self.change
        started, start, change = map(ops.convert_to_tensor, variables)
        statistic = ops.stop_gradient(ops.cast(statistic, start.dtype))
        if training:
            statistic = self._of_batch(ops.mean, statistic)
        new_start = ops.where(ops.greater(started, 0), start, statistic)
        if training and not context.current().frozen:
            # A batch may overflow in mixed precision, and then cannot be the start.
            usable = ops.all(ops.isfinite(new_start))
            self.start.assign(ops.where(usable, new_start, start))
            self.started.assign(ops.where(usable, ops.ones_like(started), started))
        return new_start + change

    def set(self, value: Any) -> None:
        """Set the parameter to a value that broadcasts to its shape."""
        shape = tuple(self.start.shape)
        self.start.assign(ops.broadcast_to(ops.cast(value, self.start.dtype), shape))
        self.change.assign(ops.zeros_like(ops.convert_to_tensor(self.change)))
        self.started.assign(1.0)
