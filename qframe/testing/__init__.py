"""The conformance kit: checks of the values and gradients of components.

A check is a function that raises if a component breaks a promise, one that it declares in
its `qframe.quantizers.Traits` or one of all components. Three ways to run checks::

    check_quantizer("mine:soft_sign(steepness=4.0)")     # one error that lists all faults

    for check in quantizer_checks(SoftSign(steepness=4.0)):
        check()

    @parametrize_with_checks(["mine:soft_sign", "mine:unit_max"])     # in pytest
    def test_conformance(check):
        check()

and ``pytest --qframe mine`` runs all checks of a plugin. Needs ``keras-qframe[testing]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qframe.testing import strategies
    from qframe.testing.check import Check, ConformanceError
    from qframe.testing.parametrization import parametrize_with_checks
    from qframe.testing.suites import (
        check_constraint,
        check_plugin,
        check_quantizer,
        constraint_checks,
        plugin_checks,
        quantizer_checks,
    )

__all__ = [
    "Check",
    "ConformanceError",
    "check_constraint",
    "check_plugin",
    "check_quantizer",
    "constraint_checks",
    "parametrize_with_checks",
    "plugin_checks",
    "quantizer_checks",
    "strategies",
]

# Lazy, since the pytest plugin imports this package and must not import a backend.
_MODULES = {
    "Check": "check",
    "ConformanceError": "check",
    "parametrize_with_checks": "parametrization",
    "strategies": "strategies",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(
            f"module 'qframe.testing' has no attribute {name!r}; it has "
            f"{', '.join(__all__)}"
        )
    module_name = _MODULES.get(name, "suites")
    try:
        module = importlib.import_module(f"qframe.testing.{module_name}")
    except ModuleNotFoundError as error:
        if error.name in ("hypothesis", "pytest"):
            raise ImportError(
                f"qframe.testing needs {error.name}, which is not installed. Write: pip "
                "install 'keras-qframe[testing]'"
            ) from error
        raise
    return module if name == module_name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
