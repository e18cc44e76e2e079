"""The quantizer of DoReFa-Net."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Quantizer, Traits, clip_through
from qframe.quantizers.arithmetic import tiny, wide, wide_array
from qframe.validation import integer_within, one_of


class DoReFa(Quantizer):
    r"""k bits between 0 and 1 for activations, between -1 and 1 for weights.

    Activations, with :math:`n = 2^k - 1`:

    .. math:: q(x) = \frac{1}{n} \lfloor n \min(\max(x, 0), 1) \rceil

    .. math:: \frac{dq}{dx} = 1 \text{ where } 0 \le x \le 1 \text{, else } 0

    Weights, with m the largest magnitude of tanh x in the tensor:

    .. math:: q(x) = \frac{2}{n} \left\lfloor
        n \left( \frac{\tanh x}{2 m} + \frac{1}{2} \right) \right\rceil - 1

    .. math:: \frac{dq}{dx} = \frac{1 - \tanh^2 x}{m}

    No gradient flows through m. Ties round to even. So a weight of 0, which is not on the
    grid, becomes a neighbouring level: +1/3 with 2 bits, -1 with 1. So does a tensor of
    zeros, which has no gradient, as in Larq. Subnormal weights count as 0.

    Args:
        k_bit: k, an integer from 1 to 16. Default 2.
        mode: ``"activations"`` or ``"weights"``. Default ``"activations"``.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.DoReFa(k_bit=2)
        >>> [round(float(v), 3) for v in q([-0.3, 0.3, 2.0])]
        [0.0, 0.333, 1.0]

    Paper: Zhou et al., 2016, https://arxiv.org/abs/1606.06160
    """

    def __init__(self, k_bit: int = 2, mode: str = "activations", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k_bit = integer_within("DoReFa", "k_bit", k_bit, 1, 16)
        self.mode = one_of("DoReFa", "mode", mode, ("activations", "weights"))
        self.precision = self.k_bit

    @property
    def steps(self) -> int:
        """The number of steps of the grid, n."""
        return 2**self.k_bit - 1

    @property
    def traits(self) -> Traits:
        activations, n = self.mode == "activations", self.steps
        range = (0.0, 1.0) if activations else (-1.0, 1.0)
        integers = np.arange(0 if activations else -n, n + 1, 1 if activations else 2)
        return Traits(
            levels=tuple((integers / n).tolist()) if self.k_bit <= 8 else None,
            range=range,
            support=range if activations else None,
            elementwise=activations,
            idempotent=activations,
            monotone=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def value(self, inputs: Any) -> Any:
        x, n = wide(inputs), self.steps
        if self.mode == "activations":
            value = ops.round(clip_through(x, 0, 1) * n) / n
        else:
            tanh, largest = _tanh(x)
            unit = ops.divide_no_nan(tanh, 2 * largest) + 0.5
            value = (2 * ops.round(unit * n) - n) / n
        return ops.cast(value, inputs.dtype)

    def gradient(self, inputs: Any) -> Any:
        if self.mode == "activations":
            inside = ops.logical_and(
                ops.greater_equal(inputs, 0), ops.less_equal(inputs, 1)
            )
            return ops.cast(inside, inputs.dtype)
        tanh, largest = _tanh(wide(inputs))
        slope = ops.divide_no_nan(1 - ops.square(tanh), largest)
        return ops.cast(slope, inputs.dtype)

    def affine(self, inputs: Any) -> tuple[float, int]:
        return 1 / self.steps, 0

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        wide, n = wide_array(x), self.steps
        if self.mode == "activations":
            return (np.rint(np.clip(wide, 0, 1) * n) / n).astype(x.dtype)
        tanh, largest = _reference_tanh(wide)
        unit = tanh / (2 * largest) + 0.5 if largest else np.full_like(tanh, 0.5)
        return (2 * np.rint(unit * n) / n - 1).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`."""
        if self.mode == "activations":
            return ((x >= 0) & (x <= 1)).astype(x.dtype)
        tanh, largest = _reference_tanh(wide_array(x))
        slope = (1 - tanh**2) / largest if largest else np.zeros_like(tanh)
        return slope.astype(x.dtype)


def _tanh(x: Any) -> tuple[Any, Any]:
    """The tanh of x, and its largest magnitude."""
    tanh = ops.tanh(x)
    largest = ops.max(ops.abs(tanh), initial=0)
    return tanh, ops.where(ops.less(largest, tiny(x)), ops.zeros_like(largest), largest)


def _reference_tanh(x: Any) -> tuple[Any, Any]:
    tanh = np.tanh(x)
    largest = np.abs(tanh).max(initial=0)
    return tanh, 0 if largest < np.finfo(x.dtype).tiny else largest
