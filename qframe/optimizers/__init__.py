"""Optimizers for weights of few bits, beside those of Keras."""

from __future__ import annotations

from qframe.optimizers.bop import Bop
from qframe.optimizers.case import CaseOptimizer

__all__ = ["Bop", "CaseOptimizer"]
