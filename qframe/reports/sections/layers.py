"""The cost of each layer."""

from __future__ import annotations

from qframe.models import ModelProfile
from qframe.reports.blocks import Section, sortable


def section(profile: ModelProfile) -> Section:
    """The table of the layers."""
    return Section("Layers", [sortable(profile.tables()[0])])
