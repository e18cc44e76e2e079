"""Layers that can be lowered, with the quantizers of their inputs and outputs."""

from __future__ import annotations

from typing import Any

from qframe.deployment.lowering.tracing import Lowering, Traced, Tracer
from qframe.errors import QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.slots import filled_slots
from qframe.layers.table import TABLE, nearest


def lowering_name_of(layer: Any) -> str:
    """The name of the lowering of a layer; raises `QFrameError` for one without."""
    # The nearest class alone: a subclass of Keras may compute something else than its base.
    row = nearest(TABLE, type(layer))
    known = sorted(cls.__name__ for cls, row in TABLE.items() if row.lowering)
    if row is None or row.lowering is None:
        if row is not None and row.refusal is not None:
            raise QFrameError(row.refusal)
        raise QFrameError(
            f"the target has no such layer. Replace it, or put it before or after what is "
            f"exported. These can be used: {', '.join(known)}"
        )
    override = override_of(layer)
    if override is not None:
        raise QFrameError(
            f"{override}, and code is not exported. Replace it with layers that can be: "
            f"{', '.join(known)}"
        )
    if getattr(layer, "data_format", None) == "channels_first":
        raise QFrameError("it has its channels first. Build it with channels_last")
    return row.lowering


def with_slots(
    lowering: Lowering, tracer: Tracer, layer: Any, inputs: list[Traced]
) -> Traced:
    """The lowering with the quantizers of the input and the output."""
    quantizers = {slot.name: slot.quantizer for slot in filled_slots(layer)}
    inputs = list(inputs)
    if "input" in quantizers:
        for i in _in_first_argument(tracer, layer, len(inputs)):
            inputs[i] = tracer.add_input_quantizer(quantizers["input"], inputs[i])
    for i, tensor in enumerate(inputs):
        if f"input_{i + 1}" in quantizers:
            inputs[i] = tracer.add_input_quantizer(quantizers[f"input_{i + 1}"], tensor)
    output = lowering(tracer, layer, inputs)
    if "output" in quantizers:
        output = tracer.add_quantizer(quantizers["output"], output)
    return output


def _in_first_argument(tracer: Tracer, layer: Any, count: int) -> list[int]:
    """The tensors that an input quantizer reads: the query of attention, and no key."""
    places, _ = tracer.call_of_layer()
    if layer.first_argument in places:
        return [places[layer.first_argument]]
    return [i for i in range(count) if i not in places.values()]
