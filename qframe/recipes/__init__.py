"""Recipes: which quantizers go to which layers, as rules that a file or a name holds."""

from __future__ import annotations

from qframe.recipes.recipe import Recipe, get

__all__ = ["Recipe", "get"]
