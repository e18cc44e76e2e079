"""The binary weight quantizer of DoReFa-Net."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Quantizer, Traits
from qframe.quantizers.arithmetic import mean_magnitude, tiny, wide, wide_array


class DoReFaSign(Quantizer):
    r"""Sign times the mean magnitude of the whole tensor; the gradient of the identity.

    .. math:: q(x) = s \, \mathrm{sign}(x), \quad s = \mathrm{mean}\,|x|

    .. math:: \frac{dq}{dx} = 1

    The paper quantizes weights to one bit with one scale for all output channels, for
    which `DoReFa` is not meant. No gradient flows through s. A tensor of zeros gives zeros;
    otherwise 0 and subnormal numbers count as positive, and one NaN makes all values NaN.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.DoReFaSign()
        >>> [[float(v) for v in row] for row in q([[1.0, -4.0], [-3.0, 2.0]])]
        [[2.5, -2.5], [-2.5, 2.5]]

    Paper: Zhou et al., 2016, https://arxiv.org/abs/1606.06160
    """

    precision = 1

    @property
    def traits(self) -> Traits:
        return Traits(
            levels=(-1.0, 1.0),
            range=(-1.0, 1.0),
            odd=True,
            scaled=True,
            nan=None,
            reference=self.reference,
            surrogate=np.ones_like,
        )

    def value(self, inputs: Any) -> Any:
        x = wide(inputs)
        scale = mean_magnitude(x, None)
        return ops.cast(ops.where(ops.less_equal(x, -tiny(x)), -scale, scale), inputs.dtype)

    def gradient(self, inputs: Any) -> Any:
        return ops.ones_like(inputs)

    def affine(self, inputs: Any) -> tuple[Any, int]:
        return mean_magnitude(wide(inputs), None), 0

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        scale = np.abs(x).mean(dtype=np.float64) if x.size else 0.0
        sign = np.where(wide_array(x) > -(2.0**-126), 1, -1)
        return (scale * sign).astype(x.dtype)
