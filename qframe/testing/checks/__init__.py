"""The registered checks, from which `qframe.testing.suites` selects."""

from __future__ import annotations

from qframe.testing.check import Definition, collector

# By kind, in the order in which they run: checks that explain other failures first.
DEFINITIONS: dict[str, list[Definition]] = {"quantizer": [], "constraint": []}

of_quantizers = collector(DEFINITIONS["quantizer"])
of_constraints = collector(DEFINITIONS["constraint"])
