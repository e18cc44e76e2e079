"""Reductions of the window of a pixel, whose channels stay in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from qframe_packed.compiled.vectors import (
    emitter,
    integer,
    load,
    loop,
    over_channels,
    store,
)


def _sum(b: Any, total: Any, value: Any, weight: Any) -> Any:
    return b.fadd(total, b.fmul(value, weight))


def _largest(b: Any, largest: Any, value: Any, direction: Any) -> Any:
    directed = b.fmul(value, direction)
    # NaN is above all numbers, and stays.
    above = b.or_(
        b.fcmp_ordered(">", directed, largest), b.fcmp_unordered("!=", directed, directed)
    )
    return b.select(above, directed, largest)


def _reduction(start: float, step: Callable[..., Any], directed: bool) -> Any:
    def reduce(
        b: Any,
        window: Any,
        down: Any,
        across: Any,
        rows: Any,
        columns: Any,
        weights: Any,
        weights_down: Any,
        weights_across: Any,
        out: Any,
        channels: Any,
    ) -> None:
        def body(kind: Any, index: Any) -> None:
            offset = b.mul(index, integer(4))

            def row(index: Any, x: Any, w: Any, total: Any) -> tuple[Any, ...]:
                def pixel(index: Any, x: Any, w: Any, total: Any) -> tuple[Any, ...]:
                    total = step(b, total, load(b, kind, x), load(b, kind, w))
                    return b.add(x, across), b.add(w, weights_across), total

                *_, total = loop(b, integer(0), columns, 1, (x, w, total), pixel)
                return b.add(x, down), b.add(w, weights_down), total

            first = b.add(weights, offset)
            begin = ir.Constant(kind, [start] * kind.count)
            carried = b.add(window, offset), first, begin
            *_, total = loop(b, integer(0), rows, 1, carried, row)
            if directed:
                total = b.fmul(total, load(b, kind, first))
            store(b, total, b.add(out, offset))

        over_channels(b, channels, body)

    return emitter(reduce)


# Arguments of both: the address of a window, the bytes to the next row and to the next
# column, its rows and columns; the address of the weights, the bytes to the next row and
# to the next column; the address of the result; the channels. The first is the sum of
# products. For the second the weights are directions, 1 or -1, and the result is the number
# that is furthest in the direction of its channel.
sum_window = _reduction(0.0, _sum, directed=False)
largest_of_window = _reduction(float("-inf"), _largest, directed=True)
