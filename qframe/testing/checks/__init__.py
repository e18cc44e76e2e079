"""The checks, by what they are about; `qframe.testing.fronts` chooses among them."""

from __future__ import annotations

from qframe.testing.check import Definition, collector

# By kind, in the order in which they run: those that explain the others come first.
DEFINITIONS: dict[str, list[Definition]] = {"quantizer": [], "constraint": []}

of_quantizers = collector(DEFINITIONS["quantizer"])
of_constraints = collector(DEFINITIONS["constraint"])
