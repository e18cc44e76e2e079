"""Observation of the calls of layers and quantizers during a run over data."""

from qframe.observation.observer import Observer
from qframe.observation.running import observable_sites, run

__all__ = ["Observer", "observable_sites", "run"]
