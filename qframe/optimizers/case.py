"""Several optimizers in one, with predicates that assign the variables."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, IdleOptimizerWarning
from qframe.optimizers import predicates

Predicate = Callable[[Any], bool]


@keras.saving.register_keras_serializable("qframe", "CaseOptimizer")
class CaseOptimizer(keras.optimizers.Optimizer):
    """Trains each variable with the optimizer whose predicate claims it.

    `build`, which training calls first, assigns the variables. Each optimizer then works as
    it would alone, with a separate count of steps, schedules, clipping, accumulation and
    averages; a global norm is that of its variables. Loss scaling wraps the whole, as Keras
    does in mixed precision: ``keras.optimizers.LossScaleOptimizer(CaseOptimizer(...))``.

    ``optimizers`` lists them in order, the default last. ``learning_rate`` is that of the
    default optimizer, so that Keras's callbacks change it; the others are available as in
    ``optimizers[0].learning_rate``.

    A model saves the whole state. A predicate is saved by name: register your function with
    `keras.saving.register_keras_serializable`, or pass it in ``custom_objects`` when
    loading. A lambda has no name.

    Args:
        *predicate_optimizer_pairs: pairs (predicate, optimizer); ``predicate(variable)``
            is true if the optimizer trains a `keras.Variable`. At most one predicate may
            claim a variable.
        default_optimizer: trains the variables that no predicate claims. Default None:
            then every variable must be claimed.
        name: the name of the optimizer. Default "optimizer_case".

    Raises:
        ArgumentError: a pair is malformed; an optimizer occurs twice or scales the loss.
            In `build`: a variable is claimed by several predicates, or by none without a
            default optimizer.

    Warns:
        IdleOptimizerWarning: in `build`, a predicate claims no variable.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([
        ...     keras.Input((8,)),
        ...     qf.layers.QuantDense(4, kernel_quantizer="noop(precision=1)"),
        ...     keras.layers.Dense(2),
        ... ])
        >>> optimizer = qf.optimizers.CaseOptimizer(
        ...     (qf.optimizers.Bop.is_binary_variable, qf.optimizers.Bop()),
        ...     default_optimizer=keras.optimizers.Adam(0.01),
        ... )
        >>> model.compile(optimizer, "mse")
    """

    def __init__(
        self,
        *predicate_optimizer_pairs: tuple[Predicate, Any],
        default_optimizer: Any = None,
        name: str = "optimizer_case",
    ) -> None:
        pairs = [_checked_pair(pair) for pair in predicate_optimizer_pairs]
        optimizers = [optimizer for _, optimizer in pairs]
        default = None
        if default_optimizer is not None:
            default = _checked_optimizer(default_optimizer)
            optimizers.append(default)
        if len({id(optimizer) for optimizer in optimizers}) < max(len(optimizers), 1):
            raise ArgumentError(
                "a CaseOptimizer has at least one optimizer, and each of them once, found "
                f"{[optimizer.name for optimizer in optimizers]}. {_USAGE}"
            )
        super().__init__(learning_rate=0.0, name=name)
        self.predicates = [predicate for predicate, _ in pairs]
        self.optimizers = optimizers
        self.default_optimizer = default

    def build(self, variables: Any) -> None:
        """Assign the variables, and build each optimizer with its variables.

        Raises:
            ArgumentError: a variable is claimed by several predicates, or by none.
        """
        if self.built:
            return
        variables = list(variables)
        cases = self._cases_of(variables)
        for index, optimizer in enumerate(self.optimizers):
            claimed = [v for v, case in zip(variables, cases, strict=True) if case == index]
            optimizer.build(claimed)
        self._cases = cases
        super().build(variables)

    def _cases_of(self, variables: list[Any]) -> list[int]:
        """The index of the optimizer of each variable."""
        claims = [
            [case for case, claims in enumerate(self.predicates) if claims(variable)]
            for variable in variables
        ]
        if self.default_optimizer is not None:
            claims = [claim or [len(self.predicates)] for claim in claims]
        wrong = [
            f"{_path(variable)} is claimed by "
            + (" and ".join(self._labels(claim)) or "no predicate")
            for variable, claim in zip(variables, claims, strict=True)
            if len(claim) != 1
        ]
        if wrong:
            raise ArgumentError(
                "each variable has one optimizer in a CaseOptimizer, but "
                f"{'; '.join(wrong)}. Make the predicates exclude each other, and give a "
                "default_optimizer for what none of them claims."
            )
        cases = [case for (case,) in claims]
        idle = [case for case in range(len(self.predicates)) if case not in cases]
        for name in self._labels(idle):
            warnings.warn(
                f"the predicate {name} claims none of the {len(variables)} variables, so "
                "its optimizer trains nothing. Bop.is_binary_variable claims the weights "
                "behind a quantizer of one bit, such as 'noop(precision=1)'.",
                IdleOptimizerWarning,
                stacklevel=2,
            )
        return cases

    def _labels(self, cases: Iterable[int]) -> list[str]:
        return [predicates.label(self.predicates[case]) for case in cases]

    def _parts(self, pairs: Iterable[tuple[Any, Any]]) -> list[list[tuple[Any, Any]]]:
        """Group pairs (value, variable) by optimizer, in order."""
        parts: list[list[tuple[Any, Any]]] = [[] for _ in self.optimizers]
        for pair in pairs:
            try:
                index = self._get_variable_index(pair[1])
            except KeyError:
                raise ArgumentError(
                    f"{_path(pair[1])} is not among the variables that this CaseOptimizer "
                    "was built with. Make a new one for other variables."
                ) from None
            parts[self._cases[index]].append(pair)
        return parts

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Run one step of each optimizer.

        Args:
            grads: the gradient of each variable, or None.
            trainable_variables: the variables. Default None: those of `build`.

        Raises:
            ArgumentError: it is not built, or gradients and variables do not match.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)
        elif self.built:
            trainable_variables = keras_internals.trained_variables(self)
        else:
            raise ArgumentError(
                "gradients without variables need an optimizer that is built. Write "
                "optimizer.build(model.trainable_variables) first."
            )
        if len(grads) != len(trainable_variables) or all(g is None for g in grads):
            raise ArgumentError(
                f"a step takes one gradient for each of the {len(trainable_variables)} "
                f"variables, found {sum(g is not None for g in grads)} gradients and "
                f"{sum(g is None for g in grads)} None."
            )
        parts = self._parts(zip(grads, trainable_variables, strict=True))
        for optimizer, part in zip(self.optimizers, parts, strict=True):
            if any(gradient is not None for gradient, _ in part):
                optimizer.apply(*map(list, zip(*part, strict=True)))
            elif part:
                paths = ", ".join(_path(variable) for _, variable in part)
                warnings.warn(f"no gradients for {paths}.", stacklevel=2)
        keras_internals.steps_of(self).assign_add(1)

    @property
    def variables(self) -> list[Any]:
        """The variables of this optimizer, followed by those of each inner one."""
        inner = [v for optimizer in self.optimizers for v in optimizer.variables]
        return [*super().variables, *inner]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set `variables`, in their order."""
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        # Each inner optimizer saves its variables itself.
        for index, variable in enumerate(super().variables):
            store[str(index)] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        variables = super().variables
        if len(store.keys()) != len(variables):
            warnings.warn(
                f"the file holds no state of a CaseOptimizer: {self.name} starts again.",
                stacklevel=2,
            )
            return
        for index, variable in enumerate(variables):
            variable.assign(store[str(index)])

    def finalize_variable_values(self, var_list: Any) -> None:
        """Let each optimizer that averages variables assign the averages to them."""
        # Not `var_list`: Keras pairs averages and variables in the order of `build`.
        parts = self._parts((v, v) for v in keras_internals.trained_variables(self))
        for optimizer, part in zip(self.optimizers, parts, strict=True):
            optimizer.finalize_variable_values([variable for variable, _ in part])

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: Any = None
    ) -> None:
        """Exclude variables from the weight decay of each optimizer."""
        for optimizer in self.optimizers:
            optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the default optimizer."""
        return self._default().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._default().learning_rate = value

    def _default(self) -> Any:
        if self.default_optimizer is None:
            # Keras's callbacks test it by hasattr.
            raise AttributeError(
                "a CaseOptimizer without a default optimizer has no learning rate. Write "
                "optimizer.optimizers[0].learning_rate."
            )
        return self.default_optimizer

    def get_config(self) -> dict[str, Any]:
        """The name, the predicates by name, and the configs of the optimizers.

        Raises:
            ArgumentError: a predicate has no name, such as a lambda.
        """
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "predicates": [predicates.serialized(p) for p in self.predicates],
            "optimizers": [serialize(o) for o in self.optimizers[: len(self.predicates)]],
            "default_optimizer": serialize(self.default_optimizer),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> CaseOptimizer:
        """The inverse of `get_config`.

        Raises:
            ArgumentError: this process does not know a predicate.
        """
        deserialize = keras.saving.deserialize_keras_object
        claims = [predicates.deserialized(p, custom_objects) for p in config["predicates"]]
        optimizers = [deserialize(o, custom_objects) for o in config["optimizers"]]
        return cls(
            *zip(claims, optimizers, strict=True),
            default_optimizer=deserialize(config["default_optimizer"], custom_objects),
            name=config["name"],
        )


_USAGE = (
    "Write CaseOptimizer((predicate, optimizer), ..., default_optimizer=optimizer), with "
    "predicates that take a variable."
)


def _checked_pair(pair: Any) -> tuple[Predicate, Any]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not callable(pair[0]):
        raise ArgumentError(f"found {pair!r} where a pair should be. {_USAGE}")
    return pair[0], _checked_optimizer(pair[1])


def _checked_optimizer(identifier: Any) -> Any:
    try:
        optimizer = keras.optimizers.get(identifier)
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"{identifier!r} is not a Keras 3 optimizer. {_USAGE}"
        ) from error
    if optimizer is None:
        raise ArgumentError(f"found None where an optimizer should be. {_USAGE}")
    scaling = keras.optimizers.LossScaleOptimizer
    if isinstance(optimizer, scaling) or optimizer.loss_scale_factor is not None:
        raise ArgumentError(
            f"{optimizer.name} scales the loss, which is one for all optimizers. Write "
            "keras.optimizers.LossScaleOptimizer(CaseOptimizer(...)) instead."
        )
    return optimizer


def _path(variable: Any) -> str:
    return getattr(variable, "path", variable.name)
