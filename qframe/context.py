"""Scopes that change how quantized layers read."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

__all__ = ["quantized_scope", "should_quantize"]

_quantized = contextvars.ContextVar("qframe_quantized_scope", default=False)


@contextlib.contextmanager
def quantized_scope(quantize: bool) -> Iterator[None]:
    """Read and save quantized weights, in every quantized layer.

    Under ``quantized_scope(True)``, ``layer.kernel``, ``get_weights``, ``save_weights``
    and ``save`` of a layer or model give the quantized values; what is written goes to the
    latent weights. Calls give what they always give, but training is an error (on JAX it
    is training as ever). The scope holds in this thread, and ends with its block, also by
    an exception.

    Args:
        quantize: whether to read quantized values; False within a True scope reads
            latent ones again.

    Example:
        >>> import qframe as qf
        >>> sign = qf.quantizers.SteSign(clip_value=None)
        >>> layer = qf.layers.QuantDense(2, kernel_quantizer=sign, use_bias=False)
        >>> layer.build((None, 3))
        >>> with qf.context.quantized_scope(True):
        ...     (kernel,) = layer.get_weights()
        >>> sorted({float(abs(value)) for value in kernel.ravel()})
        [1.0]
    """
    token = _quantized.set(bool(quantize))
    try:
        yield
    finally:
        _quantized.reset(token)


def should_quantize() -> bool:
    """Whether weights are read as quantized here.

    Example:
        >>> import qframe as qf
        >>> qf.context.should_quantize()
        False
    """
    return _quantized.get()
