"""The test that ``pytest --qframe NAMESPACE`` runs for each check."""

from __future__ import annotations

from qframe.testing.check import Check


def test_conformance(check: Check) -> None:
    """Run one check."""
    check()
