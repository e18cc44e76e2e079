"""The manifest of the components of this plugin. It must not import a backend."""

from __future__ import annotations

from collections.abc import Iterator

from qframe import hookimpl
from qframe.registry.components import Component, adapter, constraint, quantizer


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield quantizer(
        "stepped_tanh",
        f"{__name__}.quantizers:SteppedTanh",
        summary="tanh in equal steps; the gradient of tanh",
    )
    yield constraint(
        "unit_max",
        f"{__name__}.constraints:UnitMax",
        summary="scale each output channel so that its largest weight is within a limit",
    )
    # Applies `kernel_quantizer` and `kernel_constraint` to `layer.matrix`.
    yield adapter(
        f"{__name__}.layers:ChannelMix",
        kernel="matrix",
        summary="mixes the channels of its input",
    )
