"""qframe trains and ships Keras models whose weights and activations have few bits.

Importing it is light: each word is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qframe import runtimes

if TYPE_CHECKING:
    from qframe import (
        constraints,
        context,
        errors,
        layers,
        models,
        optimizers,
        quantizers,
        recipes,
        zoo,
    )
    from qframe.configurable import register
    from qframe.distillation import distill
    from qframe.exporters import export
    from qframe.hookspecs import hookimpl
    from qframe.larq_weights import load_larq_weights
    from qframe.layers.adapters import register_layer
    from qframe.models import load_model
    from qframe.passes import (
        calibrate,
        float_weights,
        integers,
        plan,
        quantize,
        recalibrate_batchnorm,
        strip,
    )
    from qframe.plots import plot_quantizer, plot_weights
    from qframe.recipes import Recipe
    from qframe.reports import compare, report
    from qframe.rules import first, last

__version__ = "0.1.0"

__all__ = [
    "Recipe",
    "__version__",
    "activations",
    "calibrate",
    "callbacks",
    "compare",
    "constraints",
    "context",
    "distill",
    "errors",
    "export",
    "first",
    "float_weights",
    "hookimpl",
    "integers",
    "last",
    "layers",
    "load_larq_weights",
    "load_model",
    "math",
    "metrics",
    "models",
    "optimizers",
    "plan",
    "plot_quantizer",
    "plot_weights",
    "quantize",
    "quantizers",
    "recalibrate_batchnorm",
    "recipes",
    "register",
    "register_layer",
    "report",
    "strip",
    "utils",
    "zoo",
]

# Where the words are that are not submodules.
_HOMES = {
    "Recipe": "qframe.recipes",
    "calibrate": "qframe.passes",
    "compare": "qframe.reports",
    "distill": "qframe.distillation",
    "export": "qframe.exporters",
    "first": "qframe.rules",
    "float_weights": "qframe.passes",
    "hookimpl": "qframe.hookspecs",
    "integers": "qframe.passes",
    "last": "qframe.rules",
    "load_larq_weights": "qframe.larq_weights",
    "load_model": "qframe.models",
    "plan": "qframe.passes",
    "plot_quantizer": "qframe.plots",
    "plot_weights": "qframe.plots",
    "quantize": "qframe.passes",
    "recalibrate_batchnorm": "qframe.passes",
    "register": "qframe.configurable",
    "register_layer": "qframe.layers.adapters",
    "report": "qframe.reports",
    "strip": "qframe.passes",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"qframe.{name}")
    # Python asks for submodules too, before it imports them.
    if (runtime := runtimes.load(name)) is not None:
        return runtime
    raise AttributeError(
        f"module 'qframe' has no attribute {name!r}; it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return sorted({*__all__, *runtimes.names()})


runtimes.install()
