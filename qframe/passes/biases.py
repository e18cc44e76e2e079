"""The places of the quantizers of biases, where deployment adds their last part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import keras
import numpy as np

from qframe import keras_internals
from qframe.layers.adapters import adapter_of, slot_attribute
from qframe.layers.flow import Flow, Step
from qframe.layers.roles import Role, role_of_activation
from qframe.passes.edges import Edges

BIAS = "bias_quantizer"
BETA = "beta_quantizer"


class Biases:
    """Puts the quantizer of a bias behind a product, or says why it cannot be one.

    Args:
        flow: the calls of the model.
        edges: the quantizers of its edges.
        settings: the settings of each layer by its id, which change.
    """

    def __init__(self, flow: Flow, edges: Edges, settings: dict[int, dict[str, Any]]):
        self._flow, self._edges, self._settings = flow, edges, settings

    def place(self, layer: Any, quantizer: Any) -> str:
        """Put the quantizer of a rule into the settings of a layer.

        Returns:
            Why the bias stays in float; empty where it does not.
        """
        settings = self._settings[id(layer)]
        had_bias = settings.pop(BIAS, None) is not None
        calls = self._edges.products.get(id(layer), [])
        if not had_bias and not any(map(_affine, calls)):
            return ""  # the bias of deployment is 0
        fault = self._fault(layer, calls)
        if fault:
            return fault
        parts = [_parts(chain) for chain in calls] or [_Parts()]
        fault = next((part.fault for part in parts if part.fault), "")
        if fault:
            return fault
        norms, offset = [part.norm for part in parts], parts[0].offset
        if any(part.offset != offset for part in parts) or (None in norms and any(norms)):
            return "its calls shift it by different numbers"
        for norm in filter(None, norms):
            if self._reads_others(norm, layer):
                return f"{norm.name!r} reads several layers"
        for norm in filter(None, norms):
            self._settings[id(norm)][BETA] = _with_offset(quantizer, offset)
        if norms[0] is None and had_bias:
            settings[BIAS] = _with_offset(quantizer, offset)
        return "" if norms[0] is not None or had_bias else "it has none, and is shifted"

    def _fault(self, layer: Any, calls: Sequence[Sequence[Step]]) -> str:
        """Why there is no grid of sums."""
        adapter, settings = adapter_of(type(layer)), self._settings[id(layer)]
        weights = adapter.weights if adapter is not None else ()
        kernels = [w.prefix for w in weights if w.channel_axis is not None]
        if len(kernels) != 1:
            return "its sums are those of several kernels"
        if settings.get(slot_attribute(kernels[0])) is None:
            return "its kernel is not quantized"
        if "input_quantizer" in settings:
            return ""
        if not calls:
            return "the call of the layer around it is code, which has no known edges"
        if not all(self._has_grid(chain[0].inputs[0]) for chain in calls):
            return "its input is not quantized"
        return ""

    def _has_grid(self, tensor: int) -> bool:
        """Return whether a tensor is on the grid of a quantizer."""
        step = self._flow.makers.get(tensor)
        if step is None:
            return False
        settings = self._settings.get(id(step.operation), {})
        activation = getattr(step.operation, "activation", None)
        if Role.QUANTIZER in (step.role, role_of_activation(activation)):
            return True
        if "output_quantizer" in settings:
            return True
        if step.role not in (Role.MOVE, Role.IDENTITY):
            return False
        return "input_quantizer" in settings or self._has_grid(step.inputs[0])

    def _reads_others(self, norm: Any, layer: Any) -> bool:
        """Return whether a batch normalization is behind other products too."""
        return any(
            step.operation is norm
            for key, calls in self._edges.products.items()
            for chain in calls
            for step in chain
            if key != id(layer)
        )


@attrs.frozen
class _Parts:
    """What shifts a bias behind a product: batch normalization, and a number."""

    norm: Any = None
    offset: float = 0.0
    fault: str = ""


def _affine(chain: Sequence[Step]) -> list[Step]:
    return [step for step in chain if step.role is Role.AFFINE]


def _parts(chain: Sequence[Step]) -> _Parts:
    norm, factor, shift = None, 1.0, 0.0
    for step in _affine(chain):
        if isinstance(step.operation, keras.layers.BatchNormalization):
            if norm is not None or (factor, shift) != (1.0, 0.0):
                return _Parts(fault=f"{step.path!r} normalizes what is scaled before")
            if not step.operation.center:
                return _Parts(fault=f"{step.path!r} has center=False, and no beta to move")
            norm = step.operation
            continue
        numbers = _scalars(step)
        if numbers is None or not numbers[0]:
            return _Parts(fault=f"{step.path!r} shifts it by more than one number")
        factor, shift = factor * numbers[0], shift * numbers[0] + numbers[1]
    return _Parts(norm, shift / factor)


def _scalars(step: Step) -> tuple[float, float] | None:
    """The factor and the shift of a function of one number each; None for others."""
    operation = step.operation
    if isinstance(operation, keras.layers.Rescaling):
        scalars = np.ndim(operation.scale) == np.ndim(operation.offset) == 0
        return (float(operation.scale), float(operation.offset)) if scalars else None
    name = keras_internals.operation_name(operation)
    if name is None or len(step.arguments) != 2:
        return None
    is_first = isinstance(step.arguments[0], keras.KerasTensor)
    try:
        number = float(np.asarray(step.arguments[is_first], np.float32).reshape(()))
    except (TypeError, ValueError):
        return None
    match name:
        case "Add":
            return 1.0, number
        case "Subtract":
            return (1.0, -number) if is_first else (-1.0, number)
        case "Multiply":
            return number, 0.0
        case "Divide" | "TrueDivide" if is_first and number:
            return 1.0 / number, 0.0
    return None


def _with_offset(quantizer: Any, offset: float) -> Any:
    """A new quantizer with the parameters of one, and another number to add."""
    return type(quantizer)(**{**quantizer.parameters, "offset": offset})
