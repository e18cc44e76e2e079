"""Checks as pytest tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qframe.errors import ArgumentError
from qframe.testing.check import Check, validate_expected


def parametrize_with_checks(
    components: Iterable[Any], *, expected_failures: Mapping[str, str] | None = None
) -> Callable[[Any], Any]:
    """Parametrize a test function of the argument ``check`` with checks.

    Args:
        components: identifiers, objects or classes of quantizers and constraints.
        expected_failures: check name -> the reason why it fails. Such a test is a strict
            xfail, which fails if the check passes.

    Raises:
        ArgumentError: the list is empty, or `expected_failures` names a check that these
            components do not have, or lacks a reason.

    Example:
        >>> from qframe.testing import parametrize_with_checks
        >>> @parametrize_with_checks(["ste_sign", "weight_clip"])
        ... def test_conformance(check):
        ...     check()
    """
    # It imports a backend.
    from qframe.testing.suites import checks_of

    if isinstance(components, str):
        raise ArgumentError(
            f"parametrize_with_checks takes a list; write [{components!r}]."
        )
    checks = [check for component in components for check in checks_of(component)]
    if not checks:
        raise ArgumentError("parametrize_with_checks was given nothing to check.")
    return parametrize(checks, expected_failures or {})


def parametrize(checks: list[Check], expected: Mapping[str, str]) -> Any:
    """The mark that runs a test for each check, passed as ``check``."""
    import pytest

    validate_expected(checks, expected)

    def parameter(check: Check) -> Any:
        reason = expected.get(check.name)
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        return pytest.param(check, id=str(check), marks=marks)

    return pytest.mark.parametrize("check", [parameter(check) for check in checks])
