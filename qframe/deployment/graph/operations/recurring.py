"""Cells of recurrent layers, repeated for each step of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.fields import (
    ArrayField,
    ChoiceField,
    KernelField,
    RecordField,
    of,
)
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.operations.base import Operation, check_floats
from qframe.deployment.graph.operations.elementwise import Activation
from qframe.deployment.graph.values import Value
from qframe.errors import DataError

# The products of a unit with its state, by the cell.
GATES: Mapping[str, int] = {"simple_rnn": 1, "lstm": 4, "gru": 3, "gru_reset_after": 3}


@attrs.frozen(eq=False)
class Recurrence(Operation):
    """The outputs of a cell that reads a sequence step by step, from a state of zeros.

    The input (steps, sums) has the products of each step with the kernel of the cell, and
    its bias. ``s`` is such a step, ``h`` the last output, and ``@`` a product with the
    recurrent kernel (sums, units) and its scale. In the order of Keras the sums are those
    of the gates of:

    - ``simple_rnn``: ``h' = activation(s + @h)``;
    - ``lstm``: i, f, c and o, with ``c' = gate(f) * c + gate(i) * activation(c_sum)`` and
      ``h' = gate(o) * activation(c')``;
    - ``gru``: z, r and n, with ``h' = z * h + (1 - z) * activation(s + @(r * h))``;
    - ``gru_reset_after``: the same with ``activation(s + r * (@h + bias))``, where z and r
      have a part of the bias as well.

    Args:
        function: the cell.
        kernel: the recurrent kernel; integers have a scale of 1.
        scale: of the kernel, one number or one for each sum. Default None: 1.
        bias: of the products with the state, of ``gru_reset_after`` alone. Default None.
        activation: of the cell. Default None: linear.
        gate: the activation of the gates. Default None: linear.
        reads: the order of the steps, ``"forwards"`` or ``"backwards"``.
        returns: the output of the ``"last"`` step that is read; of ``"all"``, in the order
            in which they are read; or of all in the ``"reversed"`` order.
    """

    name: ClassVar[str] = "recurrence"
    function: str = attrs.field(metadata=of(ChoiceField(tuple(GATES))))
    kernel: Any = attrs.field(metadata=of(KernelField(2)))
    scale: Any = attrs.field(default=None, metadata=of(ArrayField(range(2), optional=True)))
    bias: Any = attrs.field(
        default=None, metadata=of(ArrayField(range(1, 2), optional=True))
    )
    activation: Activation | None = attrs.field(
        default=None, metadata=of(RecordField(Activation))
    )
    gate: Activation | None = attrs.field(
        default=None, metadata=of(RecordField(Activation))
    )
    reads: str = attrs.field(
        default="forwards", metadata=of(ChoiceField(("forwards", "backwards")))
    )
    returns: str = attrs.field(
        default="last", metadata=of(ChoiceField(("last", "all", "reversed")))
    )

    @property
    def units(self) -> int:
        """The numbers of an output, and of a state."""
        return int(self.kernel.shape[1])

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_floats(x)
        sums = GATES[self.function] * self.units
        if self.kernel.shape[0] != sums:
            raise DataError(
                f"a {self.function} of {self.units} units has {sums} sums, and its kernel "
                f"has the shape {list(self.kernel.shape)}"
            )
        if len(x.shape) != 2 or x.shape[1] != sums:
            raise DataError(
                f"it takes steps of {sums} sums, found the shape {list(x.shape)}"
            )
        if is_integer(self.kernel) and np.any(self.kernel.scale != 1):
            raise DataError("the scale of its kernel is another field")
        for array in (self.scale, self.bias):
            if array is not None and array.shape not in ((), (sums,)):
                raise DataError(f"it has numbers of shape {list(array.shape)} for {sums}")
        if self.bias is not None and self.function != "gru_reset_after":
            raise DataError(f"the bias of a {self.function} is that of its input")
        if self.gate is not None and self.function == "simple_rnn":
            raise DataError("a simple_rnn has no gates")
        shape = (self.units,)
        return Value(shape if self.returns == "last" else (x.shape[0], *shape))
