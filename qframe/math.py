"""Step functions without a gradient, from which binary quantizers are made."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["heaviside", "sign", "smallest_normal"]


def smallest_normal(dtype: str) -> float:
    """The magnitude below which a number counts as zero.

    Devices differ in whether they flush subnormal numbers to zero; comparing with the
    smallest normal one gives the same sign everywhere. Those of float16 are real numbers
    on every device.

    Example:
        >>> import qframe as qf
        >>> qf.math.smallest_normal("float32") == 2.0**-126
        True
    """
    tiny = {"float16": 2.0**-24, "float64": 2.0**-1022}
    return tiny.get(dtype, 2.0**-126)


def sign(x: Any) -> Any:
    r"""The sign, which is never zero.

    .. math:: f(x) = \begin{cases} +1 & x \ge 0 \\ -1 & x < 0 \end{cases}

    Args:
        x: a tensor or array of numbers. Subnormal numbers count as 0; NaN stays NaN.

    Returns:
        A tensor of the dtype of `x`.

    Example:
        >>> import qframe as qf
        >>> [float(v) for v in qf.math.sign([-2.0, -0.0, 0.5])]
        [-1.0, 1.0, 1.0]
    """
    x, dtype, edge = _with_edge(x)
    if "float" not in dtype:
        return ops.cast(ops.where(ops.less(x, 0), -1, 1), dtype)
    one = ops.ones((), dtype)
    rest = ops.where(ops.greater(x, -edge), one, x)
    return ops.where(ops.less_equal(x, -edge), -one, rest)


def heaviside(x: Any) -> Any:
    r"""The Heaviside step.

    .. math:: f(x) = \begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}

    Args:
        x: a tensor or array of numbers. Subnormal numbers count as 0; NaN stays NaN.

    Returns:
        A tensor of the dtype of `x`.

    Example:
        >>> import qframe as qf
        >>> [float(v) for v in qf.math.heaviside([-2.0, 0.0, 0.5])]
        [0.0, 0.0, 1.0]
    """
    x, dtype, edge = _with_edge(x)
    one = ops.ones((), dtype)
    zero = ops.zeros((), dtype)
    return ops.where(ops.greater_equal(x, edge), one, ops.where(ops.less(x, edge), zero, x))


def _with_edge(x: Any) -> tuple[Any, str, Any]:
    """A tensor, its dtype, and the smallest positive number that counts."""
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    edge = smallest_normal(dtype) if "float" in dtype else 1
    return x, dtype, ops.cast(edge, dtype)
