"""A parameter of a quantizer that learns, from a start that the first batch gives."""

from __future__ import annotations

from typing import Any

from keras import ops

from qframe import context


class Learned:
    r"""A number, or one for each channel, that a quantizer learns.

    .. math:: p = p_0 + \delta

    The start p₀ is a statistic of the first batch of training, the mean of those of its
    parts where replicas train on them; until then it is that of the input. The
    change δ, zero at first, is the variable that learns: it has the gradient that p has,
    an optimizer's own scaling and decay are about the change, and no trainable variable
    is assigned in a call, which JAX does not allow.

    Args:
        quantizer: whose parameter it is; called in its ``build``.
        name: of the variable that learns.
        shape: of the parameter. Default (), a number.

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
        def variable(name: str, shape: tuple[int, ...], trainable: bool = False) -> Any:
            # Each replica assigns the same.
            return quantizer.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                trainable=trainable,
                aggregation="only_first_replica",
            )

        self._of_batch = quantizer.of_batch
        self.change = variable(name, shape, trainable=True)
        self.start = variable(f"{name}_start", shape)
        self.started = variable(f"{name}_started", ())

    def __call__(self, statistic: Any, training: bool = False) -> Any:
        """The parameter; `statistic` is where it starts if it has not started yet."""
        # Tensors of them first: JAX takes no Keras variable in some of its functions.
        begun, start, change = map(
            ops.convert_to_tensor, (self.started, self.start, self.change)
        )
        statistic = ops.stop_gradient(ops.cast(statistic, start.dtype))
        if training:
            statistic = self._of_batch(ops.mean, statistic)
        started = ops.where(ops.greater(begun, 0), start, statistic)
        if training and not context.current().frozen:
            # A batch that overflows, as mixed precision allows at first, starts nothing.
            usable = ops.all(ops.isfinite(started))
            self.start.assign(ops.where(usable, started, start))
            self.started.assign(ops.where(usable, ops.ones_like(begun), begun))
        return started + change

    def set(self, value: Any) -> None:
        """Start from this value, of the shape of the parameter or broadcastable to it."""
        shape = tuple(self.start.shape)
        self.start.assign(ops.broadcast_to(ops.cast(value, self.start.dtype), shape))
        self.change.assign(ops.zeros_like(ops.convert_to_tensor(self.change)))
        self.started.assign(1.0)
