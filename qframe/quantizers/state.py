"""Whether a quantizer has state."""

from __future__ import annotations

from typing import Any

from qframe.quantizers.base import Quantizer


def is_stateless(quantizer: Any) -> bool:
    """Whether layers can share a quantizer: it has no variables and draws no numbers."""
    return (
        isinstance(quantizer, Quantizer)
        and type(quantizer).build is Quantizer.build
        and not quantizer.traits.stochastic
    )
