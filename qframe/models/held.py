"""The quantizers of a layer by slot, now or as a plan has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qframe.layers.quantized import Quantized

# Of a layer.
Held = Callable[[Any], Mapping[str, Any]]


def quantizers_of(layer: Any) -> Mapping[str, Any]:
    """The quantizers by slot that a layer has."""
    return dict(layer.quantizers) if isinstance(layer, Quantized) else {}
