"""The base class of quantizers."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from qframe import context, keras_internals
from qframe.errors import ArgumentError, QFrameError
from qframe.keras_internals import latent_value
from qframe.quantizers.channels import ChannelAxis, channel_shape
from qframe.quantizers.groups import Groups
from qframe.quantizers.integers import (
    SCALE_BITS,
    Integers,
    affine_of_levels,
    integers_of,
    integers_of_levels,
)
from qframe.quantizers.observed import observed_call
from qframe.quantizers.replicas import Reduce, over_replicas
from qframe.quantizers.surrogate import straight_through
from qframe.quantizers.traits import Traits
from qframe.registry.configurable import Configurable

_ADD_WEIGHT = inspect.signature(keras.layers.Layer.add_weight)


class Quantizer(Configurable, keras.layers.Layer):
    """A map from a tensor to few values, with a surrogate gradient for training.

    A subclass defines `value` and `gradient`, states `precision` and `traits`, and stores
    each parameter of ``__init__`` under the same name, which yields config, identifier and
    repr. A subclass with state adds weights in ``build``, where ``self.channel_axis`` is
    the axis of the channels and ``self.batched`` whether the first axis is the batch.
    Other subclasses override ``call``, which may take ``training``. Statistics of the
    inputs in training go through `of_batch`.

    Floats keep their dtype; integers and booleans become the default float.

    Example:
        >>> import qframe as qf
        >>> class Third(qf.quantizers.Quantizer):
        ...     precision = 2
        ...     def value(self, inputs):
        ...         return keras.ops.round(inputs * 3) / 3
        ...     def gradient(self, inputs):
        ...         return keras.ops.ones_like(inputs)
        >>> round(float(Third()(0.3)), 4)
        0.3333
    """

    kind: ClassVar[str] = "quantizer"
    precision: int | None = None
    # The layer sets both before it builds a quantizer with state. A quantizer outside of a
    # slot has None, and treats its input as a weight.
    channel_axis: ChannelAxis = -1
    batched: bool | None = None
    # The bits of a scale that it computes, including those of a zero point.
    bits_of_each_scale: int = SCALE_BITS

    def __init__(self, **kwargs: Any) -> None:
        # Autocast would quantize a float32 weight in float16 under mixed precision.
        super().__init__(**{"autocast": False, **kwargs})
        # Outside of the call of another layer, Keras casts variables of mixed precision
        # all the same.
        if self.compute_dtype != self.variable_dtype:
            self.dtype_policy = keras.DTypePolicy(self.variable_dtype)
        self.supports_masking = True

    @property
    def traits(self) -> Traits:
        """The traits of this quantizer; the defaults promise nothing."""
        return Traits()

    def value(self, inputs: Any) -> Any:
        """The quantized tensor. Takes ``channel_axis`` too if `Traits.channelwise`."""
        # Not called `forward`: on PyTorch every layer has a method of that name.
        raise NotImplementedError(f"{type(self).__name__} has neither value nor call")

    def gradient(self, inputs: Any) -> Any:
        """The surrogate of d value / d inputs, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient")

    def affine(self, inputs: Any) -> tuple[Any, Any] | None:
        """The scale and zero point of the values for `inputs`; None without a grid.

        ``value == scale * (integer - zero_point)``, both broadcastable to `inputs`. By
        default they follow from `Traits.levels`. Takes ``channel_axis`` too if
        `Traits.channelwise`.
        """
        return affine_of_levels(self.traits)

    def integer_levels(self) -> range | None:
        """The integers that its values stand for, evenly spaced; None where not known.

        By default they follow from `Traits.levels`.
        """
        return integers_of_levels(self.traits)

    @property
    def folded_variables(self) -> list[Any]:
        """Its variables that a deployed model does not store, as they are in the integers.

        By default none.
        """
        return []

    def groups_of(
        self, shape: tuple[int, ...], channel_axis: ChannelAxis = -1
    ) -> Groups | None:
        """The groups of a weight that share a scale; None for one a tensor or channel."""
        return None

    def scales_of(self, shape: tuple[int, ...], channel_axis: ChannelAxis = -1) -> int:
        """The number of scales computed from a weight that a deployed model stores.

        Constants and variables do not count; variables are counted elsewhere. By default
        the number follows from `traits` and `groups_of`.
        """
        traits = self.traits
        if not traits.scaled or traits.trainable or traits.updates:
            return 0
        groups = self.groups_of(shape, channel_axis)
        if groups is not None:
            return groups.count(shape)
        sizes = channel_shape(shape, channel_axis) if traits.channelwise else ()
        return math.prod(size for size in sizes if size is not None)

    def bits_of_scales(self, shape: tuple[int, ...], channel_axis: ChannelAxis = -1) -> int:
        """The number of bits of these scales and their zero points."""
        return self.bits_of_each_scale * self.scales_of(shape, channel_axis)

    def fits(self, shape: tuple[int, ...], channel_axis: ChannelAxis = -1) -> bool:
        """Return whether a weight of a shape is known to fit; if not, a layer tries it.

        By default the value of `Traits.elementwise`.

        Raises:
            ArgumentError: it is known not to fit.
        """
        return self.traits.elementwise

    def integers(self, inputs: Any, channel_axis: ChannelAxis = -1) -> Integers:
        """The integers, scale and zero point of the quantized `inputs`.

        Raises:
            QFrameError: this quantizer has no integers, or the inputs are not finite.

        Example:
            >>> import qframe as qf
            >>> qf.quantizers.SteSign().integers([0.5, -2.0]).values.tolist()
            [1, -1]
        """
        inputs = _as_float_tensor(inputs)
        axis = {"channel_axis": channel_axis} if self.traits.channelwise else {}
        value = self(inputs, training=False, **axis)  # builds a quantizer with state
        affine = self.affine(inputs, **axis)
        if affine is None:
            raise QFrameError(
                f"{self!r} states no integers: its values have no scale and zero point."
            )
        groups = self.groups_of(tuple(inputs.shape), channel_axis)
        return integers_of(self, value, affine, groups)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = _as_float_tensor(inputs)
        observer = context.current().observer
        if observer is not None:
            return observed_call(observer, self, self._call_layer, inputs, *args, **kwargs)
        return self._call_layer(inputs, *args, **kwargs)

    def _call_layer(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the quantizer as Keras calls a layer."""
        if not self.trainable and keras_internals.takes_training(self):
            # Like batch normalization, a frozen quantizer neither gathers nor draws.
            kwargs["training"] = False
            with keras_internals.training_restored(self):
                return super().__call__(inputs, *args, **kwargs)
        return super().__call__(inputs, *args, **kwargs)

    def set_range(self, low: Any, high: Any) -> None:
        """Set the range of its input, as `qframe.calibrate` does.

        Args:
            low: the lower end, of the shape `range_shape` or broadcastable to it.
            high: the upper end.

        Raises:
            ArgumentError: this quantizer has no range, as `Traits.ranged` states, or is not
                built, or these are not the ends of a range for it.
        """
        raise ArgumentError(f"{self!r} has no range to be set.")

    def range_shape(self) -> tuple[int, ...]:
        """The shape of each end of its range; () for one range of the tensor."""
        return ()

    def grid_of_range(self, low: Any, high: Any) -> tuple[Any, Any, int]:
        """The evenly spaced values for a range, as NumPy arrays.

        Args:
            low: the lower end, a number or an array of any shape.
            high: the upper end.

        Returns:
            The smallest and the largest value, and the number of steps between them. By
            default the range extended to 0, in steps for all the bits.
        """
        steps = 2 ** (self.precision or 8) - 1
        return np.minimum(low, 0), np.maximum(high, 0), steps

    def of_batch(self, reduce: Reduce, statistic: Any) -> Any:
        """Combine a statistic of activations over the replicas that train together.

        Each replica has a part of the batch, and all have the same weights.

        Args:
            reduce: the function of a tensor and ``axis`` that combines the statistics of
                the parts, such as `keras.ops.max`.
            statistic: a tensor, of one shape for every part.
        """
        if self.batched is False or context.current().frozen:
            return statistic
        return over_replicas(reduce, statistic)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Add a weight; replicas aggregate state that is assigned in a call."""
        arguments = _ADD_WEIGHT.bind(self, *args, **kwargs).arguments
        # By default of newer versions of Keras, the values of replicas diverge.
        if not arguments.get("trainable", True) and "aggregation" not in arguments:
            dtype = keras.backend.standardize_dtype(arguments.get("dtype"))
            kwargs["aggregation"] = "mean" if "float" in dtype else "only_first_replica"
        return super().add_weight(*args, **kwargs)

    def _straight_through(self, inputs: Any, channel_axis: ChannelAxis = -1) -> Any:
        value: Any = self.value
        gradient: Any = self.gradient
        if self.traits.channelwise:
            value = functools.partial(value, channel_axis=channel_axis)
            gradient = functools.partial(gradient, channel_axis=channel_axis)
        return straight_through(value, gradient)(inputs)

    # This type allows a subclass to take other arguments, such as `training`.
    call: Callable[..., Any] = _straight_through

    def compute_output_spec(self, inputs: Any, **kwargs: Any) -> Any:
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def load_own_variables(self, store: Any) -> None:
        # A float checkpoint has no entry for a quantizer, which keeps its initial state.
        if len(store.keys()):
            super().load_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        """The name of the class, its parameters, and the name of the object."""
        return {**super().get_config(), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Quantizer:
        """The inverse of `get_config`; finds the class by its identifier."""
        parameters = dict(config)
        name = parameters.pop("name", None)
        quantizer: Quantizer = super().from_config(parameters)
        if name is not None:
            quantizer.name = name
        return quantizer


def is_stateless(quantizer: Any) -> bool:
    """Return whether a quantizer can be shared: no variables, no random numbers."""
    return (
        isinstance(quantizer, Quantizer)
        and type(quantizer).build is Quantizer.build
        and not quantizer.traits.stochastic
    )


def _as_float_tensor(inputs: Any) -> Any:
    if hasattr(inputs, "assign"):  # a variable, of Keras or of TensorFlow
        inputs = latent_value(inputs)
    elif isinstance(inputs, (bool, int, float, list, tuple)):
        inputs = ops.convert_to_tensor(inputs)
    try:
        dtype = keras.backend.standardize_dtype(inputs.dtype)
    except AttributeError:
        raise ArgumentError(
            f"a quantizer takes one tensor or array, found {type(inputs).__name__}."
        ) from None
    if "float" in dtype:
        return inputs
    if "int" in dtype or dtype == "bool":
        return ops.cast(inputs, keras.config.floatx())
    raise ArgumentError(f"a quantizer takes numbers, found a tensor of {dtype}.")
