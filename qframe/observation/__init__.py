"""Observation of the calls of layers and quantizers during a run over data."""

from qframe.observation.observer import Observer
from qframe.observation.progress import Progress
from qframe.observation.running import observable_sites, observed_steps, run

__all__ = ["Observer", "Progress", "observable_sites", "observed_steps", "run"]
