"""The lowering of recurrent layers: products of all steps, then the loop over them."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import keras
import numpy as np

from qframe.deployment.graph.kernels import Kernel, is_integer
from qframe.deployment.graph.operations import Activation, Dense, Merge, Recurrence
from qframe.deployment.lowering.functions import is_linear, operation_of
from qframe.deployment.lowering.products import add_bias, check_bias
from qframe.deployment.lowering.shapes import add_concatenate
from qframe.deployment.lowering.slots import lowering_name_of, with_slots
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.deployment.lowering.weights import kernel_of, values_of
from qframe.errors import QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.slots import filled_slots
from qframe.quantizers import Quantizer

_MERGES = {"sum": "add", "mul": "multiply", "ave": "average"}


def recurrent(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add `keras.layers.LSTM`, `GRU` or `SimpleRNN`."""
    return _recurrent(tracer, layer, inputs, returns="all")


def bidirectional(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add two recurrent layers, one of which reads backwards, and their merge."""
    _check_call(tracer, layer, inputs)
    mode = layer.merge_mode
    if mode is None:
        raise QFrameError(
            "its merge_mode=None returns two tensors. Build it with merge_mode='concat'"
        )
    outputs = []
    # Keras turns the outputs of the second layer around.
    for part, returns in ((layer.forward_layer, "all"), (layer.backward_layer, "reversed")):
        if lowering_name_of(part) != recurrent.__name__:
            raise QFrameError(
                f"its layer {part.name!r} is not keras.layers.LSTM, GRU or SimpleRNN. "
                "Build it with one of them"
            )
        lowering = functools.partial(_recurrent, returns=returns)
        outputs.append(with_slots(lowering, tracer, part, inputs))
    if mode == "concat":
        return add_concatenate(tracer, outputs, -1)
    return tracer.add(Merge(function=_MERGES[mode]), *map(tracer.real, outputs))


def _recurrent(tracer: Tracer, layer: Any, inputs: list[Traced], *, returns: str) -> Traced:
    """Add a recurrent layer, which returns all steps in this order if it returns all."""
    _check_call(tracer, layer, inputs)
    (x,) = inputs
    cell = layer.cell
    function = _cell_of(cell)
    for slot in filled_slots(cell):
        if slot.name == "input":
            x = tracer.add_quantizer(slot.quantizer, x)
    recurrence = Recurrence(
        function=function,
        activation=_function_of(cell, "activation"),
        gate=None
        if function == "simple_rnn"
        else _function_of(cell, "recurrent_activation"),
        reads="backwards" if layer.go_backwards else "forwards",
        returns=returns if layer.return_sequences else "last",
        **_recurrent_weights(cell, tracer.target.floats),
    )
    bias = values_of(cell, "bias") if cell.use_bias else None
    if function == "gru_reset_after" and bias is not None:
        # The first half belongs to the products of the input.
        bias, of_state = bias
        check_bias(of_state)
        recurrence = attrs.evolve(recurrence, bias=of_state)
    kernel = kernel_of(cell, "kernel", np.transpose, tracer.target.floats)
    product = tracer.add(Dense(kernel=kernel), x if is_integer(kernel) else tracer.real(x))
    return tracer.add(recurrence, tracer.real(add_bias(tracer, product, bias)))


def _check_call(tracer: Tracer, layer: Any, inputs: list[Traced]) -> None:
    """Raise `QFrameError` for a state or a mask that a call takes or returns."""
    _, others = tracer.call_of_layer()
    given = [others.get(name) for name in ("initial_state", "mask", "args")]
    if len(inputs) > 1 or any(part is not None for part in keras.tree.flatten(given)):
        raise QFrameError(
            "it is called with an initial_state or a mask, and begins with zeros and reads "
            "all steps in the target. Call it with its sequence alone"
        )
    if layer.stateful:
        raise QFrameError(
            "its stateful=True keeps its state between predictions, which the target does "
            "not. Build it with stateful=False"
        )
    if layer.return_state:
        raise QFrameError(
            "its return_state=True returns its states too. Build it with "
            "return_state=False; the output of the last step is that of "
            "return_sequences=False"
        )


def _cell_of(cell: Any) -> str:
    """The function of a cell; raises `QFrameError` for one that is not of Keras."""
    override = override_of(cell)
    if override is not None:
        raise QFrameError(f"{override}, and code is not exported")
    if cell.compute_dtype != "float32":
        raise QFrameError(
            f"its cell computes in {cell.compute_dtype}, and the target in float32"
        )
    for slot in filled_slots(cell):
        tag = isinstance(slot.quantizer, Quantizer) and slot.quantizer.traits.tag
        if slot.name == "output" and not tag:
            raise QFrameError(
                f"the output_quantizer {slot.quantizer!r} of its cell quantizes its states "
                "within the loop, which the target computes in float. Write del "
                "layer.cell.quantizers['output'], and put the quantizer behind the layer"
            )
    if isinstance(cell, keras.layers.GRUCell):
        return "gru_reset_after" if cell.reset_after else "gru"
    return "lstm" if isinstance(cell, keras.layers.LSTMCell) else "simple_rnn"


def _function_of(cell: Any, attribute: str) -> Activation | None:
    """The activation of a cell, or of its gates; None for a linear one."""
    function = getattr(cell, attribute, None)  # a simple cell has no gates
    if isinstance(function, Quantizer):
        raise QFrameError(
            f"its {attribute} is the quantizer {function!r}, which acts within the loop, "
            f"and the target computes that in float. Build it with {attribute}='tanh' or "
            "another function, and put the quantizer behind the layer"
        )
    return None if is_linear(function) else operation_of(function, attribute, "linear")


def _recurrent_weights(cell: Any, floats: str) -> dict[str, Any]:
    """The recurrent kernel of a cell, and the scale of its integers."""
    kernel: Any = kernel_of(cell, "recurrent_kernel", np.transpose, floats)
    if not is_integer(kernel):
        return {"kernel": kernel}
    return {"kernel": Kernel(kernel.values), "scale": np.asarray(kernel.scale)}
