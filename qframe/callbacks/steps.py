"""Changes what a training step does, for the `fit` at hand and no longer.

Nothing of a model changes but the step that Keras makes its training function from: calls,
`evaluate`, `predict` and `save` do not see it. Keras tells no callback of an error, so the
step is put back by whatever trains next, too: each `fit` and `train_on_batch` begins by
making the training function.
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
        # Past the tracking of Keras and PyTorch, which is for layers.
        names = ("train_step", "make_train_function")
        self._before = {name: model.__dict__.get(name) for name in names}
        model.__dict__.update({CHANGES: self, "make_train_function": self._begin})

    def _begin(self, force: bool = False) -> None:
        """What Keras calls where training begins: here the former one did not end."""
        self.end()
        self._model.make_train_function(force)

    def set(self, owner: Any, change: Callable[[Step], Step] | None) -> None:
        """Let a callback change the step; None takes its change back."""
        self._changes.pop(id(owner), None)
        if change is not None:
            self._changes[id(owner)] = change
        self.trace()

    def trace(self) -> None:
        """Make the training function anew."""

        # Another function each time: JAX keeps by function what it compiled.
        def changed(*args: Any) -> Any:
            step = self._train_step
            for change in self._changes.values():
                step = change(step)
            return step(*args)

        self._model.__dict__["train_step"] = changed
        self._make(force=True)

    def end(self) -> None:
        """Put the step back."""
        for name, value in self._before.items():
            self._model.__dict__.pop(name, None)
            if value is not None:
                self._model.__dict__[name] = value
        self._model.__dict__.pop(CHANGES, None)
        self._model.train_function = None


def change_step(model: Any, owner: Any, change: Callable[[Step], Step] | None) -> None:
    """Let `owner` change the training step of a model from the next step on.

    Args:
        model: a model that is in `fit`.
        owner: whose change it is; one that it made before is taken back.
        change: from a step to another one; None for the step as it was.
    """
    steps = model.__dict__.get(CHANGES)
    if steps is None:
        if change is None:
            return
        steps = StepChanges(model)
    steps.set(owner, change)


def end_changes(model: Any) -> None:
    """Put the step back, where training ended."""
    steps = model.__dict__.get(CHANGES)
    if steps is not None:
        steps.end()
