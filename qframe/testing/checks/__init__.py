"""The checks, by what they are about; `qframe.testing.fronts` chooses among them."""

from __future__ import annotations

from qframe.testing.check import Definition, collector

# In the order in which they run: those that explain the others come first.
QUANTIZER: list[Definition] = []
CONSTRAINT: list[Definition] = []

of_quantizers = collector(QUANTIZER)
of_constraints = collector(CONSTRAINT)
