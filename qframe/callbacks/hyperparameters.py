"""Schedules of optimizer hyperparameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from qframe.errors import ArgumentError, did_you_mean
from qframe.layers.traces import retrace_training
from qframe.optimizers.hyperparameters import number_of
from qframe.validation import one_of


class HyperparameterScheduler(keras.callbacks.Callback):
    """Sets a hyperparameter of an optimizer by a schedule.

    Args:
        schedule: a function of the epoch, or of the step since training began, both from
            0, that returns a number. If it takes two arguments without defaults, the
            second is the present number.
        hyperparameter: its name, such as ``"learning_rate"`` or ``"gamma"``.
        optimizer: the optimizer of the hyperparameter, such as one inside of a
            `qframe.optimizers.CaseOptimizer`. Default None: that of the model.
        update_freq: ``"epoch"``, the default, or ``"step"``.
        verbose: 1 prints each new number. Default 0.
        log_name: its name in the logs of an epoch. Default None: that of the
            hyperparameter.

    Raises:
        ArgumentError: an argument is invalid. In training: the optimizer has no such
            number or belongs to another model, or the schedule returns no number.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.5), "mse")
        >>> halve = qf.callbacks.HyperparameterScheduler(
        ...     lambda epoch: 0.5 / 2**epoch, "learning_rate"
        ... )
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> history = model.fit(x, y, epochs=3, callbacks=[halve], verbose=0)
        >>> history.history["learning_rate"]
        [0.5, 0.25, 0.125]
    """

    def __init__(
        self,
        schedule: Callable[..., Any],
        hyperparameter: str,
        optimizer: Any = None,
        update_freq: str = "epoch",
        verbose: int = 0,
        log_name: str | None = None,
    ) -> None:
        super().__init__()
        owner = "HyperparameterScheduler"
        self.update_freq = one_of(owner, "update_freq", update_freq, ("epoch", "step"))
        if not callable(schedule):
            raise ArgumentError(
                f"schedule of {owner} must be a function of the epoch or step, found "
                f"{schedule!r}. Write for example {owner}(lambda epoch: 1e-3 * 0.5**epoch, "
                f"{hyperparameter!r})."
            )
        self.schedule = schedule
        self.hyperparameter = hyperparameter
        self.optimizer = optimizer
        self.verbose = verbose
        self.log_name = log_name or hyperparameter

    def on_train_begin(self, logs: Any = None) -> None:
        optimizer, value = self._optimizer(), self._value()
        trained = {id(v) for v in self.model.optimizer.variables}
        if not trained & {id(v) for v in optimizer.variables}:
            raise ArgumentError(
                f"{optimizer!r} does not train {self.model.name!r}: that is done by "
                f"{self.model.optimizer!r}. Give HyperparameterScheduler the optimizer "
                "itself, or compile the model with it."
            )
        if not hasattr(value, "assign") and self.update_freq == "step":
            raise ArgumentError(
                f"{self.hyperparameter} of {optimizer!r} is a plain number: each change "
                "traces the training step again. Write update_freq='epoch'."
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.update_freq == "epoch":
            self._set(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.update_freq == "step":
            # `self.model` makes the JAX trainer restore the state of the variables.
            iterations = self.model.optimizer.iterations
            self._set(int(ops.convert_to_numpy(iterations)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs[self.log_name] = number_of(self._value())

    def _optimizer(self) -> Any:
        return self.optimizer if self.optimizer is not None else self.model.optimizer

    def _value(self) -> Any:
        """The variable or number, validated."""
        optimizer, name = self._optimizer(), self.hyperparameter
        value = getattr(optimizer, name, None)
        stored = getattr(optimizer, f"_{name}", value)
        if any(isinstance(v, LearningRateSchedule) for v in (value, stored)):
            raise ArgumentError(
                f"{name} of {optimizer!r} is a schedule already. Construct the optimizer "
                "with a number to schedule it with a callback."
            )
        if number_of(value) is None:
            numbers = [
                key
                for key in optimizer.get_config()
                if number_of(getattr(optimizer, key, None)) is not None
            ]
            raise ArgumentError(
                f"{optimizer!r} has no hyperparameter {name!r} that is a number."
                + did_you_mean(str(name), numbers)
                + f" It has: {', '.join(numbers)}."
            )
        return value

    def _set(self, time: int) -> None:
        value = self._value()
        before = number_of(value)
        arguments = (time, before) if self._takes_two() else (time,)
        result = self.schedule(*arguments)
        number = number_of(result)
        if number is None or not math.isfinite(number):
            raise ArgumentError(
                f"the schedule of {self.hyperparameter} returned {result!r} for "
                f"{self.update_freq} {time}; it must return a finite number."
            )
        if number != before:
            self._write(value, number)
        if self.verbose:
            print(f"{self.update_freq} {time}: {self.log_name} is now {number}.")  # noqa: T201

    def _write(self, value: Any, number: float) -> None:
        optimizer, name = self._optimizer(), self.hyperparameter
        if not hasattr(value, "assign"):
            setattr(optimizer, name, type(value)(number) if number.is_integer() else number)
            retrace_training(self.model)  # the number is a constant of the training step
        elif hasattr(inspect.getattr_static(type(optimizer), name, None), "__set__"):
            setattr(optimizer, name, number)  # the setter may validate it
        else:
            value.assign(number)

    def _takes_two(self) -> bool:
        try:
            parameters = inspect.signature(self.schedule).parameters.values()
        except ValueError:  # a builtin
            return False
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        required = [p for p in parameters if p.default is p.empty and p.kind in positional]
        return len(required) > 1
