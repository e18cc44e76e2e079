"""qframe trains and ships Keras models whose weights and activations have few bits.

Importing it is light: Keras is imported when something needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

from qframe.configurable import register
from qframe.hookspecs import hookimpl

__version__ = "0.1.0"

_SUBMODULES = ("constraints", "errors", "layers", "models", "quantizers")
_WORDS = {"load_model": "qframe.models"}

__all__ = ["__version__", "hookimpl", "register", *_SUBMODULES, *_WORDS]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"qframe.{name}")
    if name in _WORDS:
        return getattr(importlib.import_module(_WORDS[name]), name)
    raise AttributeError(
        f"module 'qframe' has no attribute {name!r}; it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
