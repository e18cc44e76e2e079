"""The conformance kit: what proves a quantizer, forward and backward.

A check is a function that raises where a component breaks a promise that it made (in its
`qframe.quantizers.Traits`) or one that all make. Three ways to run them::

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
    from qframe.testing.fronts import (
        check_constraint,
        check_plugin,
        check_quantizer,
        constraint_checks,
        plugin_checks,
        quantizer_checks,
    )
    from qframe.testing.parametrization import parametrize_with_checks

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

# The pytest plugin imports this package, and may import no backend.
_HOMES = {
    "Check": "check",
    "ConformanceError": "check",
    "parametrize_with_checks": "parametrization",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(
            f"module 'qframe.testing' has no attribute {name!r}; it has "
            f"{', '.join(__all__)}"
        )
    home = _HOMES.get(name, "strategies" if name == "strategies" else "fronts")
    try:
        module = importlib.import_module(f"qframe.testing.{home}")
    except ModuleNotFoundError as error:
        if error.name in ("hypothesis", "pytest"):
            raise ImportError(
                f"qframe.testing needs {error.name}, which is not installed. Write: pip "
                "install 'keras-qframe[testing]'"
            ) from error
        raise
    return module if name == home else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
