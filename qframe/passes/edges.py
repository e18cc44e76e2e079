"""The slots of the tensors that pass between the steps of an integer runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import keras

from qframe.layers.adapters import full_adapter_of, slot_attribute
from qframe.layers.flow import Flow, Step
from qframe.layers.roles import Role, role_of_activation
from qframe.quantizers import Quantizer

# The roles that the next call may have to run in the same step, by that of the last one.
_FUSES: Mapping[Role, tuple[Role, ...]] = {
    Role.PRODUCT: (Role.AFFINE, Role.RELU),
    Role.AFFINE: (Role.RELU,),
    Role.MERGE: (Role.RELU,),
}
_PASSES = (Role.MOVE, Role.IDENTITY)

# From a layer to a function that makes its quantizers of edges; None for none.
EdgeOf = Callable[[Any], Callable[[], Any] | None]


@attrs.define(eq=False)
class Edges:
    """The quantizers of edges, and what has no place for one.

    Args:
        settings: the settings of each layer, by its id.
        products: by the id of a product, its calls with those fused into its step.
        notes: sentences on tensors that stay in float.
    """

    settings: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    products: dict[int, list[list[Step]]] = attrs.field(factory=dict)
    notes: dict[str, None] = attrs.field(factory=dict)


def edges_of(flow: Flow, edge_of: EdgeOf) -> Edges:
    """Find one slot for the quantizer of each tensor between two steps.

    That is the output of the last layer of a step. A tensor that no layer with slots makes,
    such as an input of the model, has its quantizer where it is read.

    Args:
        flow: the calls of the model.
        edge_of: makes the quantizers of a layer.
    """
    return _Finder(flow, edge_of).find()


class _Finder:
    def __init__(self, flow: Flow, edge_of: EdgeOf) -> None:
        self._flow, self._edge_of = flow, edge_of
        self._edges = Edges()

    def find(self) -> Edges:
        for tensor in self._flow.inputs:
            self._fill_readers(tensor)
        fused: set[int] = set()
        for step in self._flow.steps:
            if id(step) in fused:
                continue
            chain = self._chain(step)
            fused |= set(map(id, chain))
            self._fill_step(chain)
        self._share_inputs()
        return self._edges

    def _chain(self, step: Step) -> list[Step]:
        """The calls that a runtime runs as one step, from its first."""
        chain, accepted = [step], _FUSES.get(step.role, ())
        activation = _inner_activation(step)
        if activation is not Role.IDENTITY:
            accepted = ()
        tensor = step.outputs[0]
        while accepted and (reader := self._flow.single_reader(tensor)) is not None:
            if reader.role in accepted:
                chain.append(reader)
                accepted = accepted if reader.role is Role.AFFINE else ()
            elif reader.role is not Role.IDENTITY:
                break
            tensor = reader.outputs[0]
        return chain

    def _fill_step(self, chain: list[Step]) -> None:
        first, last = chain[0], chain[-1]
        layer = next((s.operation for s in chain if _is_layer(s.operation)), None)
        if first.role is Role.PRODUCT:
            self._edges.products.setdefault(id(layer), []).append(chain)
        quantizes = _inner_activation(first) is Role.QUANTIZER
        if first.role in (*_PASSES, Role.QUANTIZER) or quantizes:
            return
        if _inner_activation(first) is Role.FUNCTION:
            self._fill_activation(first)
        for tensor in last.outputs:
            if tensor not in self._flow.floats or self._is_joined(tensor):
                continue
            if _has_slots(last.operation):
                self._fill(last.operation, "output", layer)
            else:
                self._fill_readers(tensor)

    def _fill_activation(self, step: Step) -> None:
        """Fill the slot between the products of a layer and its activation."""
        adapter = full_adapter_of(step.operation)
        if adapter is not None and adapter.activates:
            self._fill(step.operation, "preactivation", step.operation)
        elif self._edge_of(step.operation) is not None:
            self._note(
                f"what enters the activation of {step.path!r} stays in float: write it as "
                "keras.layers.Activation behind that layer"
            )

    def _is_joined(self, tensor: int) -> bool:
        """Return whether only a concatenation reads a tensor, whose quantizer serves it."""
        reader = self._flow.single_reader(tensor)
        if reader is None:
            return False
        if reader.role is Role.JOIN:
            rule = self._edge_of(reader.operation) if _is_layer(reader.operation) else True
            return rule is not None
        passes = reader.role in _PASSES
        return passes and self._is_joined(reader.outputs[0])

    def _fill_readers(self, tensor: int) -> None:
        """Fill the input slots of the layers that read a tensor."""
        flow = self._flow
        if tensor not in flow.floats or self._is_joined(tensor):
            return
        for reader in flow.readers[tensor]:
            layer = reader.operation
            if isinstance(layer, keras.layers.Embedding):
                continue
            if _has_slots(layer):
                for slot in _input_slots(reader, tensor):
                    self._fill(layer, slot, layer)
            elif reader.role in _PASSES:
                self._fill_readers(reader.outputs[0])
            elif reader.role is not Role.QUANTIZER:
                self._note(
                    f"what {self._name(tensor)} passes to {reader.path!r} stays in float, "
                    "since neither has a slot: " + _cure(self._flow.makers.get(tensor))
                )
        if tensor in flow.outputs and tensor in flow.makers:
            self._note(
                f"what {self._name(tensor)} returns from the model stays in float, since "
                "it has no slot: " + _cure(flow.makers[tensor])
            )

    def _fill(self, layer: Any, slot: str, owner: Any) -> None:
        make = self._edge_of(owner)
        settings = self._edges.settings.setdefault(id(layer), {})
        key = slot_attribute(slot)
        if make is not None and key not in settings:
            settings[key] = make()

    def _share_inputs(self) -> None:
        """Give a layer whose calls read different grids a common one."""
        for calls in self._edges.products.values():
            layer = calls[0][0].operation
            sources = {self._source(chain[0].inputs[0]) for chain in calls}
            if len(sources) > 1:
                self._fill(layer, "input", layer)

    def _source(self, tensor: int) -> Any:
        """What puts a tensor on its grid."""
        step = self._flow.makers.get(tensor)
        if step is None or step.role not in _PASSES:
            return tensor if step is None else id(step.operation)
        if "input_quantizer" in self._edges.settings.get(id(step.operation), {}):
            return id(step.operation)
        return self._source(step.inputs[0])

    def _name(self, tensor: int) -> str:
        step = self._flow.makers.get(tensor)
        return "the input" if step is None else repr(step.path)

    def _note(self, text: str) -> None:
        self._edges.notes[f"{text}."] = None


def _cure(step: Step | None) -> str:
    if step is None:
        return "put keras.layers.Identity() behind the input"
    names = {Role.MERGE: "keras.layers.Add() or the like", Role.AFFINE: "Rescaling"}
    name = names.get(step.role, "a layer of Keras")
    return f"write that operator as {name}, or put keras.layers.Identity() behind it"


def _inner_activation(step: Step) -> Role:
    """The role of the activation in a layer with a kernel."""
    if step.role is not Role.PRODUCT:
        return Role.IDENTITY
    return role_of_activation(getattr(step.operation, "activation", None))


def _input_slots(step: Step, tensor: int) -> list[str]:
    """The slots of a layer for a tensor that it reads."""
    adapter = full_adapter_of(step.operation)
    if adapter is None or not adapter.inputs:
        return ["input"]
    return [f"input_{i}" for i, each in enumerate(step.inputs, 1) if each == tensor]


def _is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)


def _has_slots(operation: Any) -> bool:
    """Return whether an operation is a layer with slots for activations."""
    if not _is_layer(operation) or isinstance(operation, Quantizer):
        return False
    return full_adapter_of(operation) is not None
