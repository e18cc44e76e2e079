"""Bop: flips the signs of binary weights, which have no latent value beside them."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from qframe import keras_internals
from qframe.errors import ArgumentError, StarvedWeightsWarning, did_you_mean
from qframe.layers import quantizer_of
from qframe.optimizers.hyperparameters import checked, deserialized, serialized

_LIMITS = {"threshold": float("inf"), "gamma": 1.0}
_AVERAGED = "its weights are -1 and +1, and their moving average is neither"
_NOT_TAKEN = {
    "learning_rate": "its rate is gamma",
    "weight_decay": "its weights are -1 and +1, and nothing smaller",
    "use_ema": _AVERAGED,
    "ema_momentum": _AVERAGED,
    "ema_overwrite_frequency": _AVERAGED,
}
_TAKEN = (
    *("threshold", "gamma", "name", "clipnorm", "clipvalue", "global_clipnorm"),
    *("loss_scale_factor", "gradient_accumulation_steps"),
)


@keras.saving.register_keras_serializable("qframe", "Bop")
class Bop(keras.optimizers.Optimizer):
    """Flips a binary weight when its average gradient has pushed against it for long.

    ``m <- m + gamma (g - m)``; then ``w <- -w`` where ``w m > threshold``.

    ``m`` is the moving average of the gradient g of a weight, 0 before the first step. The
    first step makes every weight -1 or +1, its sign, and all later ones keep it so. Zero
    counts as +1; where ``w m == threshold`` exactly, the weight becomes +1; NaN stays NaN.
    The average is kept in float32 where weights have 16 bits. Every variable that it is
    given becomes binary: `CaseOptimizer` gives it those that should.

    Gamma is what Keras calls the learning rate: ``learning_rate`` reads and sets it too, so
    that Keras's callbacks work. A number can be set during training; a schedule is given
    the count of the steps, and cannot.

    Args:
        threshold: what ``w m`` must exceed for a flip, 0 or more; a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Default 1e-8.
        gamma: the rate of the average, from 0 to 1; a number or a schedule. Default 1e-4.
        name: the name of the optimizer. Default "Bop".
        clipnorm: the largest norm of the gradient of a variable. Default None.
        clipvalue: the largest magnitude of a gradient. Default None.
        global_clipnorm: the largest norm of all gradients together. Default None.
        loss_scale_factor: as in Keras's optimizers. Default None.
        gradient_accumulation_steps: as in Keras's optimizers. Default None.

    Raises:
        ArgumentError: a hyperparameter is out of range or unknown, or has no meaning for
            binary weights, such as weight decay; a schedule does not return one number in
            the range at step 0.

    Warns:
        StarvedWeightsWarning: when it is built, a variable is behind a quantizer whose
            gradient at -1 and 1 is not positive.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> weights = keras.Variable([0.3, -2.0, 1.0])
        >>> bop = qf.optimizers.Bop(threshold=0.25, gamma=0.5)
        >>> bop.apply([np.array([0.0, 0.0, 1.0], "float32")], [weights])
        >>> keras.ops.convert_to_numpy(weights).tolist()
        [1.0, -1.0, -1.0]

    Paper: Helwegen et al., "Latent Weights Do Not Exist: Rethinking Binarized Neural
    Network Optimization", 2019, https://arxiv.org/abs/1906.02107
    """

    def __init__(
        self,
        threshold: Any = 1e-8,
        gamma: Any = 1e-4,
        name: str = "Bop",
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        **unknown: Any,
    ) -> None:
        for key in unknown:
            why = f": {_NOT_TAKEN[key]}" if key in _NOT_TAKEN else ""
            raise ArgumentError(
                f"Bop takes no {key}{why}. It takes {', '.join(_TAKEN)}."
                + did_you_mean(key, _TAKEN)
            )
        threshold = self._checked("threshold", threshold)
        super().__init__(
            learning_rate=self._checked("gamma", gamma),
            name=name,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
        )
        if not isinstance(threshold, LearningRateSchedule):
            threshold = self.add_variable(
                shape=(),
                initializer=keras.initializers.Constant(threshold),
                dtype="float32",  # in 16 bits the default is 0
                aggregation="only_first_replica",
                name="threshold",
            )
        self._threshold = threshold

    @staticmethod
    def _checked(name: str, value: Any) -> Any:
        return checked("Bop", name, value, _LIMITS[name])

    @property
    def threshold(self) -> Any:
        """The threshold: a variable, or what the schedule says of this step."""
        if isinstance(self._threshold, LearningRateSchedule):
            return self._threshold(keras_internals.steps_of(self))
        return self._threshold

    @threshold.setter
    def threshold(self, value: Any) -> None:
        self._set("threshold", value)

    @property
    def gamma(self) -> Any:
        """The rate of the average: a variable, or what the schedule says of this step."""
        return self.learning_rate

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._set("gamma", value)

    @property
    def learning_rate(self) -> Any:
        """Gamma, under the name that Keras's callbacks know."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._set("gamma", value)

    def _set(self, name: str, value: Any) -> None:
        variable = getattr(self, name)
        if isinstance(value, LearningRateSchedule) or not hasattr(variable, "assign"):
            # A step that is compiled already would not see a new schedule.
            raise ArgumentError(
                f"{name} of Bop can be set where it is a number and stays one; it cannot "
                f"become {value!r}. Write a new Bop({name}=...) and compile again."
            )
        variable.assign(self._checked(name, value))

    def build(self, variables: Any) -> None:
        """Make the averages of the gradients, one for each variable."""
        if self.built:
            return
        for variable in variables:
            _warn_of_gradient(variable)
        super().build(variables)
        self._averages = [self._average_for(variable) for variable in variables]

    def _average_for(self, variable: Any) -> Any:
        if keras.backend.standardize_dtype(variable.dtype) not in ("float16", "bfloat16"):
            return self.add_variable_from_reference(variable, name="average")
        name = getattr(variable, "path", variable.name).replace("/", "_")
        return self.add_variable(
            shape=variable.shape, dtype="float32", name=f"{name}_average"
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step for one variable; `learning_rate` is gamma."""
        average = self._averages[self._get_variable_index(variable)]
        dtype = average.dtype
        gamma, threshold = (ops.cast(x, dtype) for x in (learning_rate, self.threshold))
        # Of an embedding the gradient may come in slices.
        gradient = ops.cast(ops.convert_to_tensor(gradient), dtype)
        updated = average + gamma * (gradient - average)
        flipped = flip(ops.cast(variable, dtype), updated, threshold)
        self.assign(average, updated)
        self.assign(variable, ops.cast(flipped, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        """The name and all hyperparameters, with the numbers that they are now."""
        config = super().get_config()
        hyperparameters = {
            "threshold": serialized(self._threshold),
            "gamma": config["learning_rate"],
        }
        taken = {key: value for key, value in config.items() if key in _TAKEN}
        return {**taken, **hyperparameters}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Bop:
        """The inverse of `get_config`."""
        found = {
            key: deserialized(value, custom_objects) if key in _LIMITS else value
            for key, value in config.items()
        }
        return cls(**found)

    @staticmethod
    @keras.saving.register_keras_serializable("qframe", "is_binary_variable")
    def is_binary_variable(variable: Any) -> bool:
        """Whether a variable is behind a slot whose quantizer has a precision of one bit.

        Example:
            >>> import qframe as qf
            >>> layer = qf.layers.QuantDense(4, kernel_quantizer="noop(precision=1)")
            >>> layer.build((None, 8))
            >>> qf.optimizers.Bop.is_binary_variable(layer.kernel)
            True
            >>> qf.optimizers.Bop.is_binary_variable(layer.bias)
            False
        """
        return getattr(quantizer_of(variable), "precision", None) == 1


def _warn_of_gradient(variable: Any) -> None:
    """Warn where the surrogate gradient of binary weights is none or points back."""
    quantizer = quantizer_of(variable)
    traits = getattr(quantizer, "traits", None)
    if traits is None or not traits.elementwise or traits.surrogate is None:
        return
    slopes = traits.surrogate(np.array([-1.0, 1.0]))
    if not (slopes > 0).all():
        warnings.warn(
            f"{getattr(variable, 'path', variable.name)} is behind {quantizer!r}, whose "
            f"gradient at -1 and 1 is {slopes.tolist()}: Bop cannot train it. Write "
            "'noop(precision=1)' or 'ste_sign' there.",
            StarvedWeightsWarning,
            stacklevel=3,
        )


def flip(weights: Any, average: Any, threshold: Any) -> Any:
    """The signs of the weights, other ones where ``weights * average > threshold``."""
    push = weights * average
    turned = ops.where(push > threshold, -weights, weights)
    positive = ops.logical_or(push == threshold, turned >= 0)
    signs = ops.where(positive, ops.ones_like(weights), -ops.ones_like(weights))
    # A model that diverged shows it.
    return ops.where(ops.isnan(push), push, signs)
