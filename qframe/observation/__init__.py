"""Run a model over data, and observe the calls of its layers and quantizers."""

from qframe.observation.observer import Observer
from qframe.observation.running import observable_sites, run

__all__ = ["Observer", "observable_sites", "run"]
