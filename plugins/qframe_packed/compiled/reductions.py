"""The window of a pixel, reduced: its channels stay in registers meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qframe_packed.compiled.vectors import integer, load, loop, over_channels, store


def _sum(b: Any, total: Any, value: Any, weight: Any) -> Any:
    return b.fadd(total, b.fmul(value, weight))


def _most(b: Any, most: Any, value: Any, direction: Any) -> Any:
    directed = b.fmul(value, direction)
    # NaN is above all, and stays.
    above = b.or_(
        b.fcmp_ordered(">", directed, most), b.fcmp_unordered("!=", directed, directed)
    )
    return b.select(above, directed, most)


def _reduced(start: float, step: Callable[..., Any], directed: bool) -> Any:
    def reduce(
        typing: Any,
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
    ) -> Any:
        def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            window, down, across, rows, columns = arguments[:5]
            weights, weights_down, weights_across, out, channels = arguments[5:]

            def body(kind: Any, index: Any) -> None:
                offset = b.mul(index, integer(4))

                def row(index: Any, x: Any, w: Any, found: Any) -> tuple[Any, ...]:
                    def pixel(index: Any, x: Any, w: Any, found: Any) -> tuple[Any, ...]:
                        found = step(b, found, load(b, kind, x), load(b, kind, w))
                        return b.add(x, across), b.add(w, weights_across), found

                    *_, found = loop(b, integer(0), columns, 1, (x, w, found), pixel)
                    return b.add(x, down), b.add(w, weights_down), found

                first = b.add(weights, offset)
                begin = ir.Constant(kind, [start] * kind.count)
                carried = b.add(window, offset), first, begin
                *_, found = loop(b, integer(0), rows, 1, carried, row)
                if directed:
                    found = b.fmul(found, load(b, kind, first))
                store(b, found, b.add(out, offset))

            over_channels(b, channels, body)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), codegen

    return intrinsic(reduce)


# Both take integers: the address of a window, the bytes to the next row and to the next
# column, the rows and columns; the address of the weights, the bytes to the next row and
# to the next column; where to write; the channels. The sum of products:
sum_window = _reduced(0.0, _sum, directed=False)
# and, the weights being directions, the number that is furthest in the direction.
most_of_window = _reduced(float("-inf"), _most, directed=True)
