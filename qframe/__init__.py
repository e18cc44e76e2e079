"""qframe trains and ships Keras models whose weights and activations have few bits.

Importing it is light: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qframe.registry import runtimes

if TYPE_CHECKING:
    from qframe import (
        constraints,
        context,
        errors,
        layers,
        models,
        optimizers,
        passes,
        quantizers,
        recipes,
        zoo,
    )
    from qframe.distillation import distill
    from qframe.exporters import export
    from qframe.layers.adapters import register_layer
    from qframe.layers.float_scope import float_weights
    from qframe.models import load_model
    from qframe.passes import (
        allocate,
        calibrate,
        equalize,
        fold_batchnorm,
        integers,
        plan,
        quantize,
        recalibrate_batchnorm,
        round_weights,
        sensitivity,
        strip,
    )
    from qframe.recipes import Recipe
    from qframe.recipes.rules import first, last
    from qframe.registry.configurable import register
    from qframe.registry.hookspecs import hookimpl
    from qframe.reports import compare, report
    from qframe.reports.figures import plot_quantizer, plot_weights
    from qframe.reports.verification import verify
    from qframe.zoo.larq_weights import load_larq_weights

__version__ = "0.1.0"

__all__ = [
    "Recipe",
    "__version__",
    "activations",
    "allocate",
    "calibrate",
    "callbacks",
    "compare",
    "constraints",
    "context",
    "distill",
    "equalize",
    "errors",
    "export",
    "first",
    "float_weights",
    "fold_batchnorm",
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
    "passes",
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
    "round_weights",
    "sensitivity",
    "strip",
    "utils",
    "verify",
    "zoo",
]

# The modules of the names that are not submodules.
_HOMES = {
    "Recipe": "qframe.recipes",
    "allocate": "qframe.passes",
    "calibrate": "qframe.passes",
    "compare": "qframe.reports",
    "distill": "qframe.distillation",
    "equalize": "qframe.passes",
    "export": "qframe.exporters",
    "first": "qframe.recipes.rules",
    "float_weights": "qframe.layers.float_scope",
    "fold_batchnorm": "qframe.passes",
    "hookimpl": "qframe.registry.hookspecs",
    "integers": "qframe.passes",
    "last": "qframe.recipes.rules",
    "load_larq_weights": "qframe.zoo.larq_weights",
    "load_model": "qframe.models",
    "plan": "qframe.passes",
    "plot_quantizer": "qframe.reports.figures",
    "plot_weights": "qframe.reports.figures",
    "quantize": "qframe.passes",
    "recalibrate_batchnorm": "qframe.passes",
    "register": "qframe.registry.configurable",
    "register_layer": "qframe.layers.adapters",
    "report": "qframe.reports",
    "round_weights": "qframe.passes",
    "sensitivity": "qframe.passes",
    "strip": "qframe.passes",
    "verify": "qframe.reports.verification",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"qframe.{name}")
    # Python looks up submodules too, before it imports them.
    if (runtime := runtimes.load(name)) is not None:
        return runtime
    raise AttributeError(
        f"module 'qframe' has no attribute {name!r}; it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return sorted({*__all__, *runtimes.names()})


runtimes.install()
