"""The groups of a model whose channels can be scaled, and why others cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import keras

from qframe.errors import QFrameError
from qframe.layers.table import nearest
from qframe.passes.equalization.attentions import tensor_of_projection
from qframe.passes.equalization.channel_groups import Group
from qframe.passes.equalization.followed_code import FollowedCalls
from qframe.passes.equalization.group_search import Draft, check_layer
from qframe.passes.equalization.norms import NORMS, Norms
from qframe.passes.equalization.passages import source_of
from qframe.passes.proofs import is_product


@attrs.define(eq=False)
class Groups:
    """The groups of a model, and why other layers are in none.

    Args:
        calls: the calls of the layers of the model.
        takes_norms: whether a normalization may make channels.
        groups: the groups.
    """

    calls: FollowedCalls
    takes_norms: bool
    groups: list[Group] = attrs.field(factory=list)
    # By the id of a layer, why the channels that it makes or reads are not scaled.
    _outputs: dict[int, str] = attrs.field(factory=dict, init=False)
    _inputs: dict[int, str] = attrs.field(factory=dict, init=False)

    def find(self, layers: Iterable[Any]) -> None:
        """Find the groups of all layers."""
        norms = Norms(self.calls, self.takes_norms)
        seen: set[int] = set()
        for layer in layers:
            if id(layer) in seen or not (is_product(layer) or norms.has(layer)):
                continue
            for whole in (True, False):
                draft = Draft(self.calls, norms, whole)
                draft.start(layer)
                if not (draft.reason and draft.is_split):
                    break
            seen |= draft.makers.keys()
            if draft.reason:
                self._refuse({id(layer), *draft.makers}, draft.readers, draft.reason)
            elif draft.readers:
                makers, readers = draft.makers.values(), draft.readers.values()
                self.groups.append(Group(tuple(makers), tuple(readers), draft.count))

    def drop(self, reason_of: Callable[[Group], str]) -> None:
        """Drop each group that a function gives a reason against."""
        for group, reason in [(each, reason_of(each)) for each in self.groups]:
            if reason:
                self.remove(group, reason)

    def remove(self, group: Group, reason: str) -> None:
        """Remove a group for a reason."""
        self.groups = [each for each in self.groups if each is not group]
        made = [id(each.layer) for each in group.makers]
        self._refuse(made, [id(each.layer) for each in group.readers], reason)

    def _refuse(self, made: Iterable[int], read: Iterable[int], reason: str) -> None:
        self._outputs = {**dict.fromkeys(made, reason), **self._outputs}
        self._inputs = {**dict.fromkeys(read, reason), **self._inputs}

    def reason_of(self, layer: Any) -> str:
        """Why the inputs of a layer of products are not scaled."""
        if id(layer) in self._inputs:
            return self._inputs[id(layer)]
        try:
            tensor = tensor_of_projection(layer, self.calls)
            if tensor is None:
                check_layer(layer, self.calls)
                nodes = self.calls.of(layer)
                if not nodes:
                    return "no call of the model reaches it"
                tensor = nodes[0].arguments.keras_tensors[0]
            while (maker := self.calls.maker(tensor)) is not None:
                operation = maker.operation
                if id(operation) in self._outputs:
                    return self._outputs[id(operation)]
                if nearest(NORMS, type(operation)) and not self.takes_norms:
                    return _of_norm(operation)
                tensor = source_of(maker)
        except QFrameError as error:
            return str(error)
        return "it reads an input of its model"


def _of_norm(norm: Any) -> str:
    text = f"it reads the normalization {norm.name!r}, "
    if isinstance(norm, keras.layers.BatchNormalization):
        return f"{text}which qframe.fold_batchnorm may fold first"
    return f"{text}which method='smoothquant' or 'awq' divides"
