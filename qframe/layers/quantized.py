"""The one mechanism: a quantized layer is the Keras layer that it was, plus slots.

`generation.quantized_class` makes, for a layer class, the subclass whose weights read as
quantized while it is being called. A slot holds a quantizer, under the attribute
``<slot>_quantizer``; Keras tracks a quantizer's own variables there.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import keras
from keras import ops, tree

from qframe import keras_internals, quantizers
from qframe.errors import ArgumentError, StarvedWeightsWarning
from qframe.layers.adapters import Adapter, Weight, slot_attribute
from qframe.layers.application import (
    check_fit,
    located,
    path_of,
    quantized,
    quantized_each,
)
from qframe.layers.arguments import resolve
from qframe.layers.padding import check_pad_values, pad_same
from qframe.layers.reading import Readable
from qframe.layers.slots import Slots, placed, put_behind
from qframe.layers.substitution import is_substituted, latent, substituted
from qframe.quantizers import Quantizer
from qframe.quantizers.channels import ChannelAxis
from qframe.registry.configurable import Configurable
from qframe.registry.requirements import requirements, without_requirements


class Quantized(Readable):
    """What every quantized layer is an instance of, beside its own Keras class."""

    float_class: ClassVar[type]
    adapter: ClassVar[Adapter]
    first_argument: ClassVar[str]
    # The slots whose quantizers do not run now; `float_weights` sets it.
    idle_slots: frozenset[str] = frozenset()

    @property
    def quantizers(self) -> Slots:
        """The quantizers by slot, the empty slots left out; assign one to replace it."""
        return Slots(self)

    def set_slot(self, slot: str, quantizer: Any, *, tried: bool = False) -> None:
        """Put a quantizer into a slot, or None to empty it.

        Args:
            slot: of those of the adapter.
            quantizer: the object, or None.
            tried: whether a plan tried already that it fits the weight. Default False.
        """
        key = slot_attribute(slot)
        before = getattr(self, key, None)
        quantizer = placed(slot, quantizer)
        with keras_internals.unlocked(self):
            # First what can fail.
            if self.built:  # type: ignore[attr-defined]
                self._build_slot(slot, quantizer)
                self._check_strategy(slot, quantizer)
                if quantizer is not None and not tried:
                    self._check_fit(slot, quantizer)
            if isinstance(before, keras.layers.Layer):
                keras_internals.untrack(self, before)
                # PyTorch lets nothing but a module take the place of a module.
                delattr(self, key)
            setattr(self, key, quantizer)
            self._settle(quantizer)
        if self.built:  # type: ignore[attr-defined]
            self._put_behind_slots()

    def _init_slots(self, held: Mapping[str, Any], pad_values: float) -> None:
        """Fill the slots; called once, at the end of construction."""
        layer: Any = self
        for slot, quantizer in held.items():
            quantizer = placed(slot, quantizer)
            setattr(self, slot_attribute(slot), quantizer)
            self._settle(quantizer)
        if self.adapter.pads:
            self.pad_values = check_pad_values(layer.name, pad_values, layer.padding)
        for weight in self.adapter.weights:
            constraint = getattr(self, f"{weight.prefix}_constraint", None)
            if constraint is None and _starves(held.get(weight.prefix)):
                warnings.warn(
                    f"{weight.prefix}_quantizer={held[weight.prefix]!r} has no gradient "
                    "for weights beyond its support, and without a constraint they can "
                    "end up there and never learn again (starved weights). Add "
                    f"{weight.prefix}_constraint='weight_clip'.",
                    StarvedWeightsWarning,
                    stacklevel=1,  # one place, so that Python shows it once
                )

    def _settle(self, quantizer: Any) -> None:
        """Freeze what comes into a frozen layer, and keep one order of variables.

        It is that of the layer's own, and then of the slots, however these were filled.
        """
        if isinstance(quantizer, keras.layers.Layer) and not self.trainable:  # type: ignore[attr-defined]
            quantizer.trainable = False
        held = (getattr(self, slot_attribute(slot), None) for slot in self.adapter.slots)
        keras_internals.put_last(self, [q for q in held if q is not None])

    def _post_build(self) -> None:
        # Keras runs this after build, before it locks the layer against new variables.
        self._settle(None)
        for slot, quantizer in self.quantizers.items():
            self._build_slot(slot, quantizer)
            self._check_strategy(slot, quantizer)
            self._check_fit(slot, quantizer)
        self._put_behind_slots()
        super()._post_build()  # type: ignore[misc]

    def _put_behind_slots(self) -> None:
        for weight in self._with_quantizer(self.adapter.weights):
            put_behind(latent(self, weight.attribute), self, weight.prefix)

    def _build_slot(self, slot: str, quantizer: Any) -> None:
        if not isinstance(quantizer, keras.layers.Layer) or quantizer.built:
            return
        shape, axis = self._shape_and_axis(slot)
        if shape is None:  # a bias under use_bias=False
            return
        if isinstance(quantizer, Quantizer):
            quantizer.channel_axis = axis
        with located(path_of(self), slot, tuple(shape)):
            quantizer.build(shape)

    def _check_fit(self, slot: str, quantizer: Any) -> None:
        for weight in self.adapter.weights:
            variable = latent(self, weight.attribute) if weight.prefix == slot else None
            if variable is not None:
                shape, axis = tuple(variable.shape), weight.channel_axis_of(self)
                with located(path_of(self), slot, shape):
                    check_fit(quantizer, shape, variable.dtype, axis)

    def _check_strategy(self, slot: str, quantizer: Any) -> None:
        layer: Any = self
        if not getattr(quantizer, "variables", None) or not layer.variables:
            return
        strategy = keras_internals.strategy_of(layer)
        if keras_internals.strategy_of(quantizer) is not strategy:
            scope = "outside of any" if strategy is None else "within the same"
            raise ArgumentError(
                "the replicas of a tf.distribute strategy have copies of the variables of "
                f"either {layer.name!r} or its {slot}_quantizer={quantizer!r}, not of "
                f"both. Make that quantizer {scope} strategy.scope()."
            )

    def _shape_and_axis(self, slot: str) -> tuple[Any, ChannelAxis]:
        """The shape of what a slot quantizes, and where its channels are."""
        for weight in self.adapter.weights:
            if weight.prefix == slot:
                shape = getattr(latent(self, weight.attribute), "shape", None)
                return shape, weight.channel_axis_of(self)
        shapes = keras_internals.build_shapes(self) or {}
        shape = next(iter(shapes.values()), None)
        if slot == "output" and shape is not None:
            shape = self._output_shape(shape)
        return shape, self.activation_axis()

    def _output_shape(self, shape: Any) -> Any:
        """The shape of the first output."""
        layer: Any = self
        if isinstance(getattr(layer, "output_size", None), int):  # a recurrent cell
            return (*shape[:-1], layer.output_size)
        try:
            found = layer.compute_output_shape(shape)
        except NotImplementedError:
            # A custom layer need not say: Keras finds out with a symbolic call.
            given = keras.KerasTensor(shape, layer.compute_dtype)
            found = tree.flatten(layer.compute_output_spec(given))[0].shape
        while isinstance(found[0], (list, tuple)):
            found = found[0]
        return found

    def _quantized_call(self, base: type, *args: Any, **kwargs: Any) -> Any:
        """The call of `base` with quantized input, weights and output."""
        self.refuse_training_in_scope()
        held = self.running()
        if "input" in held:
            args, kwargs = self._with_first_argument(
                functools.partial(self._quantized_activation, "input"), args, kwargs
            )
        values = self.call_values()
        if getattr(self, "pad_values", 0) and self.padding == "same":  # type: ignore[attr-defined]
            args, kwargs = self._with_first_argument(
                lambda inputs: pad_same(self, inputs, self.pad_values), args, kwargs
            )
            values["padding"] = "valid"
        with substituted(self, values):
            outputs = base.call(self, *args, **kwargs)  # type: ignore[attr-defined]
        if "output" in held:
            return self._quantized_activation("output", outputs)
        return outputs

    def _quantized_activation(self, slot: str, tensors: Any) -> Any:
        with located(path_of(self), slot):
            quantizer = getattr(self, slot_attribute(slot))
            return quantized_each(quantizer, self.activation_axis(), tensors)

    def running(self) -> dict[str, Any]:
        """The quantizers by slot, without those that do not run in this call."""
        return {
            slot: quantizer
            for slot, quantizer in self.quantizers.items()
            if slot not in self.idle_slots
            and not is_substituted(self, slot_attribute(slot))
        }

    def quantized_weights(self) -> dict[str, Any]:
        """The quantized values by attribute, in the dtypes of the latent weights."""
        return self._values_of(self.adapter.weights)

    def call_values(self) -> dict[str, Any]:
        """What reads differently in a call, but for what is substituted already."""
        running = [
            weight
            for weight in self.adapter.weights
            if weight.prefix not in self.idle_slots
            and not is_substituted(self, weight.attribute)
        ]
        dtype = self.compute_dtype  # type: ignore[attr-defined]
        return {a: ops.cast(value, dtype) for a, value in self._values_of(running).items()}

    def _values_of(self, weights: Iterable[Weight]) -> dict[str, Any]:
        held = self._with_quantizer(weights)
        return {weight.attribute: self.value_of(weight) for weight in held}

    def _with_quantizer(self, weights: Iterable[Weight]) -> list[Weight]:
        return [
            weight
            for weight in weights
            if getattr(self, slot_attribute(weight.prefix), None) is not None
            and latent(self, weight.attribute) is not None  # a bias under use_bias=False
        ]

    def value_of(self, weight: Weight) -> Any:
        """The quantized value of one weight that has a quantizer."""
        value = keras_internals.latent_value(latent(self, weight.attribute))
        with located(path_of(self), weight.prefix, tuple(value.shape)):
            quantizer = getattr(self, slot_attribute(weight.prefix))
            return quantized(quantizer, value, weight.channel_axis_of(self))

    def activation_axis(self) -> int:
        """Where the channels of inputs and outputs are."""
        data_format = getattr(self, "data_format", None)
        return 1 if data_format == "channels_first" else -1

    def _with_first_argument(
        self, change: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        first = self.first_argument
        return args, {**kwargs, first: change(kwargs[first])}

    def get_config(self) -> dict[str, Any]:
        """The config of the Keras layer, and an identifier for each slot."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        named = []
        for slot in self.adapter.slots:
            key = slot_attribute(slot)
            config[key] = quantizers.serialize(getattr(self, key, None))
        for key in config:
            value = getattr(self, key, None)
            if isinstance(value, Configurable):
                named.append(value.identifier)
                config[key] = str(value.identifier)
        if self.adapter.pads:
            config["pad_values"] = self.pad_values
        return {**config, **requirements(named)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the layer of a config, with its identifiers resolved."""
        config = without_requirements(config)
        # Keras wraps what goes wrong in a constructor; resolve here, where errors are ours.
        resolved = {k: resolve(cls, k, v) for k, v in config.items()}
        with warnings.catch_warnings():
            # Said once where the layer was made.
            warnings.simplefilter("ignore", StarvedWeightsWarning)
            return super().from_config(resolved)  # type: ignore[misc]

    __reduce__ = keras_internals.reduce


def _starves(quantizer: Any) -> bool:
    return isinstance(quantizer, Quantizer) and quantizer.traits.support is not None
