"""Hyperparameters of an optimizer that change while it trains."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from qframe.errors import ArgumentError, did_you_mean
from qframe.layers.traces import trace_training_anew
from qframe.optimizers.hyperparameters import number_of
from qframe.validation import one_of


class HyperparameterScheduler(keras.callbacks.Callback):
    """Sets a hyperparameter of an optimizer by a schedule.

    Args:
        schedule: a function of the epoch, or of the step since training began, both from
            0, that returns a number. One that takes two arguments without defaults gets
            the present number too.
        hyperparameter: its name, such as ``"learning_rate"`` or ``"gamma"``.
        optimizer: whose hyperparameter it is, for one within another such as a
            `qframe.optimizers.CaseOptimizer`. Default None: that of the model.
        update_freq: ``"epoch"``, the default, or ``"step"``.
        verbose: 1 says each new number. Default 0.
        log_name: its name in the logs of an epoch. Default None: that of the
            hyperparameter.

    Raises:
        ArgumentError: an argument is wrong. In training: the optimizer has no such number,
            it belongs to another model, or the schedule returns none.

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
        optimizer, now = self._optimizer(), self._now()
        known = {id(v) for v in self.model.optimizer.variables}
        if not known & {id(v) for v in optimizer.variables}:
            raise ArgumentError(
                f"{optimizer!r} does not train {self.model.name!r}: that is done by "
                f"{self.model.optimizer!r}. Give HyperparameterScheduler the optimizer "
                "itself, or compile the model with it."
            )
        if not hasattr(now, "assign") and self.update_freq == "step":
            raise ArgumentError(
                f"{self.hyperparameter} of {optimizer!r} is a plain number, which each "
                "change would trace the training step anew for. Write "
                "update_freq='epoch'."
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.update_freq == "epoch":
            self._set(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.update_freq == "step":
            # Asking for the model lets JAX put the state back into the variables.
            iterations = self.model.optimizer.iterations
            self._set(int(ops.convert_to_numpy(iterations)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs[self.log_name] = number_of(self._now())

    def _optimizer(self) -> Any:
        return self.optimizer if self.optimizer is not None else self.model.optimizer

    def _now(self) -> Any:
        """The variable or number, checked."""
        optimizer, name = self._optimizer(), self.hyperparameter
        now = getattr(optimizer, name, None)
        kept = getattr(optimizer, f"_{name}", now)
        if isinstance(now, LearningRateSchedule) or isinstance(kept, LearningRateSchedule):
            raise ArgumentError(
                f"{name} of {optimizer!r} is a schedule already. Make the optimizer with a "
                "number to schedule it with a callback."
            )
        if number_of(now) is None:
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
        return now

    def _set(self, time: int) -> None:
        now = self._now()
        before = number_of(now)
        found = self.schedule(time, before) if self._takes_two() else self.schedule(time)
        number = number_of(found)
        if number is None or not math.isfinite(number):
            raise ArgumentError(
                f"the schedule of {self.hyperparameter} returned {found!r} for "
                f"{self.update_freq} {time}; it must return a finite number."
            )
        if number != before:
            self._write(now, number)
        if self.verbose:
            told = f"{self.update_freq} {time}: {self.log_name} is now {number}."
            print(told)  # noqa: T201

    def _write(self, now: Any, number: float) -> None:
        optimizer, name = self._optimizer(), self.hyperparameter
        if not hasattr(now, "assign"):
            setattr(optimizer, name, type(now)(number) if number.is_integer() else number)
            trace_training_anew(self.model)  # the training step holds the number itself
        elif hasattr(inspect.getattr_static(type(optimizer), name, None), "__set__"):
            setattr(optimizer, name, number)  # which may check it
        else:
            now.assign(number)

    def _takes_two(self) -> bool:
        try:
            parameters = inspect.signature(self.schedule).parameters.values()
        except ValueError:  # a function of another language
            return False
        places = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        required = [p for p in parameters if p.default is p.empty and p.kind in places]
        return len(required) > 1
