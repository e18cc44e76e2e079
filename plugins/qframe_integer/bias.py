"""The quantizer of biases in integer runtimes."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import QFrameError
from qframe.quantizers import Integers, Quantizer, Traits
from qframe.quantizers.arithmetic import as_array, wide, with_gradient
from qframe.validation import any_number

# The rest of int32 is for the products.
_LARGEST = 2**30


class IntegerBias(Quantizer):
    r"""Biases on the grid of the sums of products, as integer runtimes add them.

    .. math:: q(b) = s \left\lfloor (b + c) / s \right\rceil - c

    .. math:: \frac{dq}{db} = 1

    The step s is the scale of the layer's input times that of its kernel, for each output
    channel, with zero point 0. In the slot ``beta`` of a batch normalization behind a
    product, s is multiplied by :math:`|\gamma| / \sqrt{\sigma^2 + \epsilon}`, and c is the
    rest of the folded bias, from the moving statistics. The input's grid is that of the
    layer's own input quantizer, or of the one that made the tensor in the graph.

    Other functions that shift and scale the sums, such as ``x + 3``, are stated by
    `offset`, which is part of c: b times a factor, plus a number, is on the grid where b
    plus the number divided by the factor is.

    A bias beyond 2^30 steps stays as it is, as does one without a step: of an input
    without a range yet, or outside of a layer.

    Args:
        offset: a number that deployment adds to the bias. Default 0.0.

    Raises:
        ArgumentError: `offset` is not a number; in a call, a shared layer reads different
            grids.
        QFrameError: of `integers`, there is no step.

    Example:
        >>> import keras, qframe as qf
        >>> layer = qf.layers.QuantDense(
        ...     2,
        ...     input_quantizer="dorefa(k_bit=2)",
        ...     kernel_quantizer="ste_sign",
        ...     kernel_constraint="weight_clip",
        ...     bias_quantizer="integer_bias",
        ... )
        >>> layer.build((None, 3))
        >>> _ = layer.bias.assign([0.5, -0.9])  # the step is 1/3
        >>> [round(float(b), 3) for b in layer.quantized_weights()["bias"]]
        [0.667, -1.0]

    Paper: Jacob et al., 2017, https://arxiv.org/abs/1712.05877
    """

    precision = 32

    def __init__(self, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offset = any_number("IntegerBias", "offset", offset)

    @property
    def traits(self) -> Traits:
        # Without a step, as in a call outside of a layer.
        return Traits(
            elementwise=True,
            idempotent=True,
            monotone=True,
            odd=True,
            sums=True,
            reference=np.array,
            surrogate=np.ones_like,
        )

    def call(self, inputs: Any, step: Any = None, shift: Any = 0.0) -> Any:
        if step is None:
            return inputs
        x = wide(inputs)
        step, shift = _like(x, step, shift + self.offset)
        steps, whole = _steps(ops.stop_gradient(x), step, shift)
        value = ops.where(whole, steps * step - shift, x)
        return ops.cast(with_gradient(value, x), inputs.dtype)

    def integers(
        self, inputs: Any, channel_axis: Any = -1, step: Any = None, shift: Any = 0.0
    ) -> Integers:
        """The integers of the bias, plus the shift, in steps.

        Raises:
            QFrameError: there is no step, or a bias does not fit 32 bits.
        """
        if step is None:
            raise QFrameError(
                f"{self!r} has no step: the input or the kernel of its layer has no fixed "
                "grid. Quantize both, and write qframe.calibrate(model, data)."
            )
        x = wide(ops.convert_to_tensor(inputs))
        parts = _steps(x, *_like(x, step, shift + self.offset))
        steps, whole = map(as_array, parts)
        if not whole.all():
            raise QFrameError(
                f"{self!r} does not fit 32 bits: a bias has more than {_LARGEST} steps. "
                "Write qframe.calibrate(model, data), if there are no ranges yet."
            )
        scale = np.broadcast_to(as_array(step), steps.shape).astype(np.float32)
        zero_point = np.zeros_like(scale, np.int32)
        return Integers(steps.astype(np.int32), scale, zero_point, self.precision)


def _like(x: Any, *others: Any) -> list[Any]:
    """Numbers in the dtype of the bias; those of a grid are in float32."""
    return [ops.cast(other, x.dtype) for other in others]


def _steps(x: Any, step: Any, shift: Any) -> tuple[Any, Any]:
    """The nearest number of steps, and where it fits."""
    total = x + shift
    fits = ops.logical_and(step > 0, ops.abs(total) <= _LARGEST * step)
    return ops.round(total / ops.where(step > 0, step, 1.0)), fits
