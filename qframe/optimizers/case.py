"""Several optimizers in one, and predicates that say which of them trains a variable."""

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

    The variables are divided when the optimizer is built, which training does first. Each
    optimizer then trains its own as it would alone, with its own count of steps, schedules,
    clipping, accumulation and averages; a global norm is that of its variables. What scales
    the loss goes around the whole, as Keras itself does it in mixed precision:
    ``keras.optimizers.LossScaleOptimizer(CaseOptimizer(...))``.

    ``optimizers`` lists them in order, the default last. ``learning_rate`` is that of the
    default optimizer, so that Keras's callbacks change it; those of the others are theirs,
    as in ``optimizers[0].learning_rate``.

    All is saved with a model. A predicate is saved by name: register a function of your own
    with `keras.saving.register_keras_serializable`, or pass it as one of the
    ``custom_objects`` when loading. A lambda has no name to be found by.

    Args:
        *predicate_optimizer_pairs: pairs (predicate, optimizer); ``predicate(variable)``
            says whether the optimizer trains a `keras.Variable`. No variable may be claimed
            twice.
        default_optimizer: trains what no predicate claims. Default None: then every
            variable must be claimed.
        name: the name of the optimizer. Default "optimizer_case".

    Raises:
        ArgumentError: a pair is no pair; an optimizer is there twice or scales the loss.
            When it is built: a variable is claimed by several predicates, or by none while
            there is no default optimizer.

    Warns:
        IdleOptimizerWarning: when it is built, a predicate claims no variable.

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
        found = [_checked_pair(pair) for pair in predicate_optimizer_pairs]
        optimizers = [optimizer for _, optimizer in found]
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
        self.predicates = [predicate for predicate, _ in found]
        self.optimizers = optimizers
        self.default_optimizer = default

    def build(self, variables: Any) -> None:
        """Divide the variables, and build each optimizer with its own.

        Raises:
            ArgumentError: a variable is claimed by several predicates, or by nothing.
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
            [case for case, claim in enumerate(self.predicates) if claim(variable)]
            for variable in variables
        ]
        if self.default_optimizer is not None:
            claims = [claiming or [len(self.predicates)] for claiming in claims]
        wrong = [
            f"{_path(variable)} is claimed by "
            + (" and ".join(self._labels(claiming)) or "no predicate")
            for variable, claiming in zip(variables, claims, strict=True)
            if len(claiming) != 1
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
        """Pairs (anything, variable) by optimizer, in order."""
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
        """One step of each optimizer.

        Args:
            grads: a gradient for each variable; None where there is none.
            trainable_variables: the variables. Default None: those it was built with.

        Raises:
            ArgumentError: it is not built, or gradients and variables do not fit.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)
        elif self.built:
            trainable_variables = keras_internals.trained_by(self)
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
        """Its own variables, and then those of each optimizer."""
        inner = [v for optimizer in self.optimizers for v in optimizer.variables]
        return [*super().variables, *inner]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set `variables`, in their order."""
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        # Those of the optimizers are saved with them.
        for index, variable in enumerate(super().variables):
            store[str(index)] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        own = super().variables
        if len(store.keys()) != len(own):
            warnings.warn(
                f"the file holds no state of a CaseOptimizer: {self.name} starts anew.",
                stacklevel=2,
            )
            return
        for index, variable in enumerate(own):
            variable.assign(store[str(index)])

    def finalize_variable_values(self, var_list: Any) -> None:
        """Let each optimizer that averages its variables give them the averages."""
        # Not `var_list`: Keras pairs averages and variables in the order of `build`.
        parts = self._parts((v, v) for v in keras_internals.trained_by(self))
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
        """That of the default optimizer."""
        return self._default().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._default().learning_rate = value

    def _default(self) -> Any:
        if self.default_optimizer is None:
            # For hasattr, by which Keras's callbacks ask.
            raise AttributeError(
                "a CaseOptimizer without a default optimizer has no learning rate of its "
                "own. Write optimizer.optimizers[0].learning_rate."
            )
        return self.default_optimizer

    def get_config(self) -> dict[str, Any]:
        """The name, the predicates by name, and the configs of the optimizers.

        Raises:
            ArgumentError: a predicate is a lambda or otherwise without a name.
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
            ArgumentError: a predicate is not known in this process.
        """
        deserialize = keras.saving.deserialize_keras_object
        found = [predicates.deserialized(p, custom_objects) for p in config["predicates"]]
        optimizers = [deserialize(o, custom_objects) for o in config["optimizers"]]
        return cls(
            *zip(found, optimizers, strict=True),
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


def _checked_optimizer(given: Any) -> Any:
    try:
        optimizer = keras.optimizers.get(given)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{given!r} is no optimizer of Keras 3. {_USAGE}") from error
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
