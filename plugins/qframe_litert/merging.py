"""Functions of several tensors, and slopes by channel, which are a sum of two."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.operations import Activation
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert import adding, elementwise
from qframe_litert.epilogues import Epilogue
from qframe_litert.model import Options
from qframe_litert.writer import Writer, Written

_LARGEST = 2**7 - 1


_OF_TWO = {"add": ("ADD", "Add"), "subtract": ("SUB", "Sub"), "multiply": ("MUL", "Mul")}


def merge(writer: Writer, fused: Fused, *inputs_and_value: Any) -> Written:
    """Write a function of two tensors or more."""
    *inputs, value = inputs_and_value
    operation: Any = fused.operation
    function = operation.function
    if function in ("maximum", "minimum"):
        return _end_of(writer, fused, inputs, value)
    if function == "average" or (function == "add" and len(inputs) > 2):
        return adding.total(writer, fused, inputs, value)
    if len(inputs) != 2:
        raise QFrameError(
            f"it takes {len(inputs)} tensors, and the runtime two. Write several layers"
        )
    if function not in _OF_TWO:
        raise QFrameError(f"the runtime cannot {function} integers")
    x, y = inputs
    if function == "multiply":
        _check_products(writer, x, y, value)
    epilogue = Epilogue.of(writer, fused.activation, value)
    code, name = _OF_TWO[function]
    options = Options(f"{name}Options", {"FusedActivationFunction": epilogue.function})
    out = writer.emit(code, (x.index, y.index), value, options)
    return epilogue.finish(writer, out)


def _check_products(writer: Writer, x: Written, y: Written, value: Value) -> None:
    """Raise `QFrameError` for products that overflow in the built-in kernels.

    These compute in 16 bits, and return the other end of the range beyond them.
    """
    grids = [writer.stored(edge.grid) for edge in (x, y)]
    out = writer.stored(value.grid)
    ends = [
        [grid.factor * end for end in (edge.grid.span.low, edge.grid.span.high)]
        for grid, edge in zip(grids, (x, y), strict=True)
    ]
    most = max(abs(a * b) for a in ends[0] for b in ends[1])
    steps = most * grids[0].scale * grids[1].scale / out.scale
    if writer.settings.activations == "int8" and steps + 2**7 >= 2**15:
        raise QFrameError(
            f"its products reach {steps:.0f} steps of its result, and the runtime "
            "computes them in 16 bits. Quantize its result with a larger range"
        )


def _end_of(writer: Writer, fused: Fused, inputs: list[Written], value: Value) -> Written:
    """Write the largest or the smallest of tensors, two at a time.

    Rounding is monotone: the larger of two rounded numbers is the rounded larger one.
    """
    operation: Any = fused.operation
    code, options = operation.function.upper(), Options("MaximumMinimumOptions")
    epilogue = Epilogue.of(writer, fused.activation, value, fuses=False)
    end, *others = (elementwise.on_grid(writer, x, value.grid) for x in inputs)
    for x in others:
        both = Value(np.broadcast_shapes(end.shape, x.shape), value.grid)
        end = writer.emit(code, (end.index, x.index), both, options)
    return epilogue.finish(writer, end)


def prelu(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    """Write a ReLU with a slope for each channel: what is above 0 and what is below.

    A slope is the quotient of two weights of 8 bits that is nearest to it.
    """
    operation: Any = fused.operation
    slopes = np.broadcast_to(operation.alpha, x.shape).reshape(-1, x.shape[-1])
    if (slopes == slopes[0, 0]).all():
        one = attrs.evolve(fused, operation=Activation("relu", float(slopes[0, 0])))
        return elementwise.lookup(writer, one, x, value)
    if (slopes != slopes[0]).any():
        axes = list(range(1, len(x.shape)))
        raise QFrameError(
            "it has a slope for each number of a sample, and the runtime one for each "
            f"channel. Build it with shared_axes={axes}"
        )
    zero = writer.integers("zero", [writer.stored(x.grid).zero_point], x.grid)
    halves = [
        writer.emit(code, (x.index, zero), x.value, Options("MaximumMinimumOptions"))
        for code in ("MAXIMUM", "MINIMUM")
    ]
    above, below = np.transpose([_quotient(float(slope)) for slope in slopes[0]])
    kernel = np.stack([above, below], 1)[..., None]
    return adding.stacked(writer, fused, halves, value, kernel, 1 / above)


def _quotient(slope: float) -> tuple[int, int]:
    """Weights whose quotient is a slope: of numbers above 0, and of those below."""
    if abs(slope) <= 1:
        nearest = Fraction(slope).limit_denominator(_LARGEST)
        return nearest.denominator, nearest.numerator
    inverse = Fraction(1 / slope).limit_denominator(_LARGEST)
    if not inverse:
        raise QFrameError(f"its slope {slope:g} is beyond 254. Train it with a limit")
    sign = 1 if inverse > 0 else -1
    return abs(inverse.numerator), sign * inverse.denominator
