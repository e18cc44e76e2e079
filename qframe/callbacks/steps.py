"""Change the training step of a model for the current `fit`.

Only the step from which Keras makes its training function changes. Calls, `evaluate`,
`predict` and `save` do not. Keras does not notify callbacks of an error, so the next `fit`
or `train_on_batch` restores the step too, when it makes the training function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qframe.layers.traces import CHANGES

Step = Callable[..., Any]


class StepChanges:
    """The changes of the training step of a model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._changes: dict[int, Callable[[Step], Step]] = {}
        self._train_step = model.train_step
        self._make = model.make_train_function
        # Keras and PyTorch track attributes that are set in the usual way.
        names = ("train_step", "make_train_function")
        self._before = {name: model.__dict__.get(name) for name in names}
        model.__dict__.update({CHANGES: self, "make_train_function": self._begin})

    def _begin(self, force: bool = False) -> None:
        """Restore the step when training begins and the last one did not end."""
        self.end()
        self._model.make_train_function(force)

    def set(self, owner: Any, change: Callable[[Step], Step] | None) -> None:
        """Set the change of a callback; None removes it."""
        self._changes.pop(id(owner), None)
        if change is not None:
            self._changes[id(owner)] = change
        self.trace()

    def trace(self) -> None:
        """Make the training function again."""

        # A new function each time, since JAX caches compiled code by function.
        def changed(*args: Any) -> Any:
            step = self._train_step
            for change in self._changes.values():
                step = change(step)
            return step(*args)

        self._model.__dict__["train_step"] = changed
        self._make(force=True)

    def end(self) -> None:
        """Restore the step."""
        for name, value in self._before.items():
            self._model.__dict__.pop(name, None)
            if value is not None:
                self._model.__dict__[name] = value
        self._model.__dict__.pop(CHANGES, None)
        self._model.train_function = None


def change_step(model: Any, owner: Any, change: Callable[[Step], Step] | None) -> None:
    """Change the training step of a model from the next step on.

    Args:
        model: a model that is in `fit`.
        owner: the owner of the change, which replaces its previous change.
        change: the function from a step to another one; None for no change.
    """
    steps = model.__dict__.get(CHANGES)
    if steps is None:
        if change is None:
            return
        steps = StepChanges(model)
    steps.set(owner, change)


def end_changes(model: Any) -> None:
    """Restore the step when training ends."""
    steps = model.__dict__.get(CHANGES)
    if steps is not None:
        steps.end()
