"""Fast low-bit networks."""

from __future__ import annotations

from qframe.zoo.quicknet import QuickNet, QuickNetLarge, QuickNetSmall

__all__ = ["QuickNet", "QuickNetLarge", "QuickNetSmall"]
