"""Optimizers that start again after the variables of their model were replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import attrs

from qframe import keras_internals
from qframe.errors import ArgumentError


@attrs.frozen(eq=False)
class Restart:
    """A model, and a new optimizer of it with the settings of the present one."""

    model: Any
    optimizer: Any

    def note(self) -> str:
        """A sentence for a report."""
        return (
            f"The optimizer of {self.model.name!r} starts again, without its momenta, "
            "since the variables changed; it keeps its settings and its count of steps."
        )

    def restart(self, undo: contextlib.ExitStack) -> None:
        """Replace the optimizer of the model, and build it with the present variables."""
        before = self.model.optimizer
        self.optimizer.build(self.model.trainable_variables)
        for old, new in zip(_steps(before), _steps(self.optimizer), strict=True):
            new.assign(old)
        undo.callback(setattr, self.model, "optimizer", before)
        self.model.optimizer = self.optimizer


def built_optimizers(layers: Iterable[Any]) -> list[Restart]:
    """The optimizers that hold variables of some layers, in all live models.

    Raises:
        ArgumentError: one cannot be made again from its config.
    """
    ids = set(map(id, layers))
    result = []
    for model in keras_internals.models_alive():
        optimizer: Any = getattr(model, "optimizer", None)
        if not getattr(optimizer, "built", False) or ids.isdisjoint(
            map(id, keras_internals.all_layers(model))
        ):
            continue
        try:
            new = type(optimizer).from_config(optimizer.get_config())
        # The code of a user's optimizer can raise anything.
        except Exception as error:
            raise ArgumentError(
                f"the optimizer of {model.name!r} holds variables that change, and cannot "
                f"be made again from its config: {error}. Write model.optimizer = None, "
                "call this again, and compile the model then."
            ) from error
        keras_internals.copy_exclusions(optimizer, new)
        result.append(Restart(model, new))
    return result


def _steps(optimizer: Any) -> list[Any]:
    return [v for v in optimizer.variables if v.name == "iteration"]
