"""Recurrent cells in NumPy, which the reference runs step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.functions import activate
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.operations import Activation, Recurrence

Array = NDArray[Any]


def recur(op: Recurrence, x: Array) -> Array:
    """The outputs of a cell for sequences (batch, steps, sums).

    A sample has the same bits in a batch of any size.
    """
    cell = _Cell(op)
    batch, steps, _ = x.shape
    step_of = _STEPS[op.function]
    state = [np.zeros((batch, op.units), np.float32)] * 2
    # A single one takes the outputs of all steps, if only the last one is returned.
    kept = 1 if op.returns == "last" else steps
    outputs = np.empty((batch, kept, op.units), np.float32)
    backwards, turned = op.reads == "backwards", op.returns == "reversed"
    with np.errstate(all="ignore"):
        for place in range(steps):
            sums = x[:, steps - 1 - place if backwards else place]
            state = step_of(cell, sums, *state)
            outputs[:, (steps - 1 - place if turned else place) % kept] = state[0]
    return outputs[:, 0] if op.returns == "last" else outputs


class _Cell:
    """The functions of a cell."""

    def __init__(self, op: Recurrence) -> None:
        kernel = op.kernel.integers() if is_integer(op.kernel) else op.kernel
        self.units = op.units
        self._matrix = np.ascontiguousarray(kernel.T, np.float64)
        sums = len(kernel)
        scale = np.float64(1 if op.scale is None else op.scale)
        self._scale = np.broadcast_to(scale, (sums,))
        bias = np.zeros(sums) if op.bias is None else op.bias
        self._bias = np.broadcast_to(bias.astype(np.float64), (sums,))
        self._activation, self._gate = op.activation, op.gate

    def products(self, h: Array, part: slice = slice(None)) -> Array:
        """The products of a state with a part of the kernel, and their bias."""
        # One product for each sample, as those of a whole batch are added in other orders.
        total = (h[:, None].astype(np.float64) @ self._matrix[:, part])[:, 0]
        return np.asarray(total * self._scale[part] + self._bias[part], np.float32)

    def split(self, sums: Array) -> Array:
        """The sums of each gate, which come first."""
        parts = sums.reshape(len(sums), sums.shape[1] // self.units, self.units)
        return np.ascontiguousarray(parts.transpose(1, 0, 2))

    def activation(self, x: Array) -> Array:
        """The activation of the cell."""
        return _activated(self._activation, x)

    def gate(self, x: Array) -> Array:
        """The activation of the gates."""
        return _activated(self._gate, x)


def _activated(activation: Activation | None, x: Array) -> Array:
    return x if activation is None else activate(activation, x)


def _simple(cell: _Cell, sums: Array, h: Array, _: Array) -> list[Array]:
    return [cell.activation(sums + cell.products(h)), h]


def _lstm(cell: _Cell, sums: Array, h: Array, c: Array) -> list[Array]:
    i, f, inside, o = cell.split(sums + cell.products(h))
    c = cell.gate(f) * c + cell.gate(i) * cell.activation(inside)
    return [cell.gate(o) * cell.activation(c), c]


def _gru(cell: _Cell, sums: Array, h: Array, _: Array) -> list[Array]:
    both = slice(0, 2 * cell.units)
    z, r = cell.split(sums[:, both] + cell.products(h, both))
    last = slice(2 * cell.units, None)
    inside = sums[:, last] + cell.products(cell.gate(r) * h, last)
    return [_mixed(cell.gate(z), h, cell.activation(inside)), h]


def _gru_reset_after(cell: _Cell, sums: Array, h: Array, _: Array) -> list[Array]:
    (z, r, n), (of_z, of_r, of_n) = cell.split(sums), cell.split(cell.products(h))
    inside = n + cell.gate(r + of_r) * of_n
    return [_mixed(cell.gate(z + of_z), h, cell.activation(inside)), h]


def _mixed(z: Array, h: Array, candidate: Array) -> Array:
    return np.asarray(z * h + (np.float32(1) - z) * candidate)


# The next output and the next state of a cell.
_STEPS: Mapping[str, Callable[[_Cell, Array, Array, Array], list[Array]]] = {
    "simple_rnn": _simple,
    "lstm": _lstm,
    "gru": _gru,
    "gru_reset_after": _gru_reset_after,
}
