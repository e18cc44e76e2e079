"""Recurrent cells, one copy of their operators for each step.

The runtime has operators for whole sequences too. They keep their state from one run of a
file to the next, until a user resets it, so that the second result would be another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qframe.deployment.graph.kernels import is_integer, per_output
from qframe.deployment.graph.operations import Activation, Recurrence
from qframe.deployment.graph.operations.recurring import GATES
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert.float_functions import activation, of_one, of_two
from qframe_litert.model import Options
from qframe_litert.writer import Writer, Written

_MOST_STEPS = 2048


def recurrence(writer: Writer, op: Recurrence, x: Written, value: Value) -> Written:
    """Write a cell for each step of a sequence, with the same weights."""
    steps = x.shape[0]
    if steps > _MOST_STEPS:
        raise QFrameError(
            f"it has {steps} steps, each of which is written, and {_MOST_STEPS} are the "
            "most. Give it shorter sequences, by a convolution with strides or a pool "
            "before it"
        )
    cell = _Cell(writer, op)
    sums = writer.parts("UNPACK", x, x.shape[1:], steps, {"Num": steps, "Axis": 1})
    zeros = cell.zeros(sums[0])
    state, outputs = [zeros, zeros], []
    for each in reversed(sums) if op.reads == "backwards" else sums:
        state = _STEPS[op.function](cell, each, *state)
        outputs.append(state[0])
    if op.returns == "last":
        return outputs[-1]
    if op.returns == "reversed":
        outputs.reverse()
    options = Options("PackOptions", {"ValuesCount": steps, "Axis": 1})
    return writer.emit("PACK", tuple(out.index for out in outputs), value, options)


class _Cell:
    """Writes the functions of a cell."""

    def __init__(self, writer: Writer, op: Recurrence) -> None:
        self._writer, self._op = writer, op
        self.units, self._gates = op.units, GATES[op.function]
        kernel: Any = op.kernel
        if is_integer(kernel):
            kernel = kernel.integers()
        if op.scale is not None:
            kernel = kernel * per_output(np.broadcast_to(op.scale, len(kernel)), kernel)
        bias = np.zeros(len(kernel)) if op.bias is None else op.bias
        self._weights = kernel, bias
        self._tensors: dict[Any, tuple[int, int]] = {}

    def zeros(self, sums: Written) -> Written:
        """The first state, in the size of the batch."""
        x = self.split(sums, self._gates)[0] if self._gates > 1 else sums
        least = of_two(self._writer, "MINIMUM", x, 0.0)
        return of_two(self._writer, "MAXIMUM", least, 0.0)

    def products(self, h: Written, part: slice = slice(None)) -> Written:
        """The products of a state with a part of the kernel, and their bias."""
        kernel, bias = (array[part] for array in self._weights)
        key = part.start, part.stop
        if key not in self._tensors:
            self._tensors[key] = (
                self._writer.constant("recurrent_kernel", kernel, "float32"),
                self._writer.constant("recurrent_bias", bias, "float32"),
            )
        inputs = (h.index, *self._tensors[key])
        options, value = Options("FullyConnectedOptions"), Value((len(kernel),))
        return self._writer.emit("FULLY_CONNECTED", inputs, value, options)

    def split(self, sums: Written, count: int) -> list[Written]:
        """The sums of each gate."""
        fields = {"NumSplits": count}
        return self._writer.parts("SPLIT", sums, (self.units,), count, fields, axis=1)

    def activation(self, x: Written) -> Written:
        """Write the activation of the cell."""
        return self._activated(self._op.activation, x)

    def gate(self, x: Written) -> Written:
        """Write the activation of the gates."""
        return self._activated(self._op.gate, x)

    def _activated(self, function: Activation | None, x: Written) -> Written:
        return x if function is None else activation(self._writer, function, x)

    def add(self, x: Written, y: Written) -> Written:
        """Write a sum."""
        return of_two(self._writer, "ADD", x, y)

    def multiply(self, x: Written, y: Written) -> Written:
        """Write a product."""
        return of_two(self._writer, "MUL", x, y)

    def mix(self, z: Written, h: Written, candidate: Written) -> Written:
        """Write ``z * h + (1 - z) * candidate``."""
        rest = of_two(self._writer, "ADD", of_one(self._writer, "NEG", z), 1.0)
        return self.add(self.multiply(z, h), self.multiply(rest, candidate))


def _simple(cell: _Cell, sums: Written, h: Written, _: Written) -> list[Written]:
    return [cell.activation(cell.add(sums, cell.products(h))), h]


def _lstm(cell: _Cell, sums: Written, h: Written, c: Written) -> list[Written]:
    i, f, inside, o = cell.split(cell.add(sums, cell.products(h)), 4)
    kept = cell.multiply(cell.gate(f), c)
    c = cell.add(kept, cell.multiply(cell.gate(i), cell.activation(inside)))
    return [cell.multiply(cell.gate(o), cell.activation(c)), c]


def _gru(cell: _Cell, sums: Written, h: Written, _: Written) -> list[Written]:
    z, r, inside = cell.split(sums, 3)
    of_z, of_r = cell.split(cell.products(h, slice(0, 2 * cell.units)), 2)
    reset = cell.multiply(cell.gate(cell.add(r, of_r)), h)
    inside = cell.add(inside, cell.products(reset, slice(2 * cell.units, None)))
    return [cell.mix(cell.gate(cell.add(z, of_z)), h, cell.activation(inside)), h]


def _gru_reset_after(cell: _Cell, sums: Written, h: Written, _: Written) -> list[Written]:
    z, r, inside = cell.split(sums, 3)
    of_z, of_r, of_inside = cell.split(cell.products(h), 3)
    reset = cell.multiply(cell.gate(cell.add(r, of_r)), of_inside)
    inside = cell.activation(cell.add(inside, reset))
    return [cell.mix(cell.gate(cell.add(z, of_z)), h, inside), h]


# The next output and the next state of a cell.
_STEPS: Mapping[str, Callable[[_Cell, Written, Written, Written], list[Written]]] = {
    "simple_rnn": _simple,
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_after": _gru_reset_after,
}
