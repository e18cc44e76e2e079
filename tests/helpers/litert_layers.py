"""Quantizers of layers that LiteRT files can have."""

import qframe as qf

LEVELS = "integer(symmetric=False, gather='widest')"
WEIGHTS = "integer(granularity='channel', narrow_range=True)"


def quantized(x, word=LEVELS):
    """A tensor behind a quantizer."""
    return qf.quantizers.get(word)(x)
