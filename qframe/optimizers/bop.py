"""Bop, which flips the signs of binary weights without latent weights."""

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
_NO_AVERAGE = "its weights are -1 and +1, and their moving average is neither"
_UNSUPPORTED = {
    "learning_rate": "its rate is gamma",
    "weight_decay": "its weights are -1 and +1, and nothing smaller",
    "use_ema": _NO_AVERAGE,
    "ema_momentum": _NO_AVERAGE,
    "ema_overwrite_frequency": _NO_AVERAGE,
}
_ARGUMENTS = (
    *("threshold", "gamma", "name", "clipnorm", "clipvalue", "global_clipnorm"),
    *("loss_scale_factor", "gradient_accumulation_steps"),
)


@keras.saving.register_keras_serializable("qframe", "Bop")
class Bop(keras.optimizers.Optimizer):
    """Flips a binary weight if its average gradient exceeds a threshold against its sign.

    ``m <- m + gamma (g - m)``; then ``w <- -w`` where ``w m > threshold``.

    ``m`` is the moving average of the gradient g of a weight, initially 0. The first step
    replaces every weight by its sign, so that it is -1 or +1 from then on. Zero counts as
    +1; a weight with exactly ``w m == threshold`` becomes +1; NaN stays NaN. The average of
    16-bit weights is in float32. Every trained variable becomes binary: use `CaseOptimizer`
    to train the others.

    ``learning_rate`` is another name of gamma, so that Keras's callbacks work. A number can
    be set during training. A schedule, which is a function of the step, cannot.

    Args:
        threshold: the value that ``w m`` exceeds for a flip, 0 or more; a number or a
            `keras.optimizers.schedules.LearningRateSchedule`. Default 1e-8.
        gamma: the rate of the average, from 0 to 1; a number or a schedule. Default 1e-4.
        name: the name of the optimizer. Default "Bop".
        clipnorm: the largest norm of the gradient of a variable. Default None.
        clipvalue: the largest magnitude of a gradient. Default None.
        global_clipnorm: the largest norm of all gradients together. Default None.
        loss_scale_factor: as in Keras's optimizers. Default None.
        gradient_accumulation_steps: as in Keras's optimizers. Default None.

    Raises:
        ArgumentError: a hyperparameter is out of range, unknown, or meaningless for
            binary weights, such as weight decay; a schedule does not return one number in
            the range at step 0.

    Warns:
        StarvedWeightsWarning: in `build`, the quantizer of a variable has a gradient at
            -1 or 1 that is not positive.

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
            why = f": {_UNSUPPORTED[key]}" if key in _UNSUPPORTED else ""
            raise ArgumentError(
                f"Bop takes no {key}{why}. It takes {', '.join(_ARGUMENTS)}."
                + did_you_mean(key, _ARGUMENTS)
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
        """The threshold: a variable, or the value of a schedule at this step."""
        if isinstance(self._threshold, LearningRateSchedule):
            return self._threshold(keras_internals.steps_of(self))
        return self._threshold

    @threshold.setter
    def threshold(self, value: Any) -> None:
        self._set("threshold", value)

    @property
    def gamma(self) -> Any:
        """The rate of the average: a variable, or the value of a schedule at this step."""
        return self.learning_rate

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._set("gamma", value)

    @property
    def learning_rate(self) -> Any:
        """Gamma, under the name that Keras's callbacks use."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._set("gamma", value)

    def _set(self, name: str, value: Any) -> None:
        variable = getattr(self, name)
        if isinstance(value, LearningRateSchedule) or not hasattr(variable, "assign"):
            # A compiled step would ignore a new schedule.
            raise ArgumentError(
                f"{name} of Bop can be set from a number to a number only; it cannot "
                f"become {value!r}. Write a new Bop({name}=...) and compile again."
            )
        variable.assign(self._checked(name, value))

    def build(self, variables: Any) -> None:
        """Add a gradient average for each variable."""
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
        """Update one variable in one step; `learning_rate` is gamma."""
        average = self._averages[self._get_variable_index(variable)]
        dtype = average.dtype
        gamma, threshold = (ops.cast(x, dtype) for x in (learning_rate, self.threshold))
        # The gradient of an embedding may be sparse.
        gradient = ops.cast(ops.convert_to_tensor(gradient), dtype)
        updated = average + gamma * (gradient - average)
        flipped = flip(ops.cast(variable, dtype), updated, threshold)
        self.assign(average, updated)
        self.assign(variable, ops.cast(flipped, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        """The name and all hyperparameters, with their present numbers."""
        config = super().get_config()
        hyperparameters = {
            "threshold": serialized(self._threshold),
            "gamma": config["learning_rate"],
        }
        arguments = {key: value for key, value in config.items() if key in _ARGUMENTS}
        return {**arguments, **hyperparameters}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Bop:
        """The inverse of `get_config`."""
        arguments = {
            key: deserialized(value, custom_objects) if key in _LIMITS else value
            for key, value in config.items()
        }
        return cls(**arguments)

    @staticmethod
    @keras.saving.register_keras_serializable("qframe", "is_binary_variable")
    def is_binary_variable(variable: Any) -> bool:
        """True if a variable has a quantizer with a precision of one bit.

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
    """Warn if the surrogate gradient of binary weights is not positive."""
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
    """The signs of the weights, flipped where ``weights * average > threshold``."""
    product = weights * average
    flipped = ops.where(product > threshold, -weights, weights)
    positive = ops.logical_or(product == threshold, flipped >= 0)
    signs = ops.where(positive, ops.ones_like(weights), -ops.ones_like(weights))
    # NaN stays, so that a diverged model is noticed.
    return ops.where(ops.isnan(product), product, signs)
