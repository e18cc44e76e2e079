"""The checks of a component or plugin, to run one by one or all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qframe.testing.check import Check, Definition, run_all
from qframe.testing.checks import (  # noqa: F401  (each registers its checks)
    DEFINITIONS,
    configuration,
    constraints,
    execution,
    gradients,
    noise,
    placement,
    saving,
    state,
    values,
)
from qframe.testing.checks.plugins import manifest_checks, subjects_of
from qframe.testing.subjects import ConstraintSubject, QuantizerSubject, Subject, subject_of


def quantizer_checks(quantizer: Any) -> list[Check]:
    """The checks that apply to a quantizer, by its traits.

    Args:
        quantizer: an identifier, a `Quantizer`, or its class.

    Raises:
        QFrameError: `quantizer` is something else.

    Example:
        >>> from qframe.testing import quantizer_checks
        >>> for check in quantizer_checks("ste_sign"):
        ...     if check.name in ("levels", "surrogate"):
        ...         check()
    """
    return _checks(QuantizerSubject(quantizer))


def constraint_checks(constraint: Any) -> list[Check]:
    """The checks that apply to a constraint: an identifier, an object or a class."""
    return _checks(ConstraintSubject(constraint))


def checks_of(component: Any) -> list[Check]:
    """The checks of a quantizer or constraint."""
    return _checks(subject_of(component))


def plugin_checks(namespace: str, identifiers: Iterable[str] = ()) -> list[Check]:
    """The checks of a plugin: its manifest, and each of its components.

    Args:
        namespace: the name of its entry point.
        identifiers: components to check with other arguments than the defaults, or that
            require arguments.

    Raises:
        QFrameError: no such plugin is installed.
    """
    checks = manifest_checks(namespace, identifiers)
    for subject in subjects_of(namespace, identifiers):
        checks += _checks(subject)
    return checks


def check_quantizer(
    quantizer: Any, expected_failures: Mapping[str, str] | None = None
) -> None:
    """Run every check that applies to a quantizer.

    Args:
        quantizer: an identifier, a `Quantizer`, or its class.
        expected_failures: check name -> the reason why it fails.

    Raises:
        ConformanceError: it breaks promises, all of which the message lists, or an
            expected failure passes.
        QFrameError: `quantizer` or `expected_failures` is wrong.

    Example:
        >>> import qframe as qf
        >>> from qframe.testing import check_quantizer
        >>> check_quantizer(qf.quantizers.SteSign(clip_value=2.0))
    """
    run_all(quantizer_checks(quantizer), expected_failures)


def check_constraint(
    constraint: Any, expected_failures: Mapping[str, str] | None = None
) -> None:
    """Run every check of a constraint; as `check_quantizer`."""
    run_all(constraint_checks(constraint), expected_failures)


def check_plugin(
    namespace: str,
    identifiers: Iterable[str] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Run every check of a plugin: its manifest, and each of its components.

    Args:
        namespace: the name of its entry point.
        identifiers: more components to check, as for `plugin_checks`.
        expected_failures: check name -> the reason why it fails.

    Raises:
        ConformanceError: promises are broken; the message lists all of them.
        QFrameError: no such plugin is installed, or `expected_failures` is wrong.
    """
    run_all(plugin_checks(namespace, identifiers), expected_failures)


def _checks(subject: Subject) -> list[Check]:
    return [
        Check.of(definition.function, subject.label, subject)
        for definition in DEFINITIONS[subject.kind]
        if _applies(definition, subject)
    ]


def _applies(definition: Definition, subject: Subject) -> bool:
    try:
        return bool(definition.condition(subject))
    # The check raises the error again when it runs.
    except Exception:
        return True
