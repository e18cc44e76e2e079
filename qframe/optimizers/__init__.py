"""Optimizers for low-bit weights."""

from __future__ import annotations

from qframe.optimizers.bop import Bop
from qframe.optimizers.case import CaseOptimizer

__all__ = ["Bop", "CaseOptimizer"]
