"""The figures of the whole model."""

from __future__ import annotations

from qframe.models import ModelProfile
from qframe.reports.blocks import Section, definitions


def section(profile: ModelProfile) -> Section:
    """Sums over all layers, without a heading."""
    return Section("", [definitions(profile.tables()[1].rows)])
