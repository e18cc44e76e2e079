"""The mixin of quantized layers: Keras layers with slots for quantizers.

`generation.quantized_class` creates, for a layer class, the subclass whose weights read as
quantized during a call. The quantizer of a slot is the attribute ``<slot>_quantizer``,
where Keras tracks its variables.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs
import keras
from keras import tree

from qframe import keras_internals, quantizers
from qframe.errors import ArgumentError, StarvedWeightsWarning
from qframe.layers.adapters import Adapter, slot_attribute
from qframe.layers.application import check_fit, errors_located, path_of
from qframe.layers.arguments import resolve
from qframe.layers.padding import check_pad_values, pad_same
from qframe.layers.reading import Readable
from qframe.layers.slots import (
    Slot,
    Slots,
    filled_slots,
    link_to_slot,
    quantizer_for_slot,
    running_slots,
    slot_of,
    slots_of,
    values_in_call,
    weight_slots,
)
from qframe.layers.substitution import substituted
from qframe.quantizers import Quantizer
from qframe.registry.configurable import Configurable
from qframe.registry.requirements import requirements, without_requirements


class Quantized(Readable):
    """The base of all quantized layers, beside their Keras class."""

    float_class: ClassVar[type]
    adapter: ClassVar[Adapter]
    first_argument: ClassVar[str]

    @property
    def quantizers(self) -> Slots:
        """The quantizers by slot, without the empty slots; assign one to replace it."""
        return Slots(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.endswith("_quantizer") and name[: -len("_quantizer")] in self.adapter.slots:
            value = quantizers.get(value)
        super().__setattr__(name, value)

    def set_slot(self, name: str, quantizer: Any, *, tried: bool = False) -> None:
        """Put a quantizer into a slot, or None to empty it.

        Args:
            name: the name of a slot of the adapter.
            quantizer: the object, or None.
            tried: whether a plan has tried it on the weight. Default False.
        """
        slot = slot_of(self, name)
        before = slot.quantizer
        slot = attrs.evolve(slot, quantizer=quantizer_for_slot(name, quantizer))
        with keras_internals.unlocked(self):
            # First, since it can fail.
            if self.built:  # type: ignore[attr-defined]
                self._prepare_slot(slot, tried)
            if isinstance(before, keras.layers.Layer):
                keras_internals.untrack(self, before)
                # On PyTorch only a module can replace a module.
                delattr(self, slot.key)
            setattr(self, slot.key, slot.quantizer)
            self._settle(slot.quantizer)
        if self.built:  # type: ignore[attr-defined]
            self._link_variables()

    def _init_slots(self, filled: Mapping[str, Any], pad_values: float) -> None:
        """Fill the slots; called once, at the end of construction."""
        layer: Any = self
        for name, quantizer in filled.items():
            quantizer = quantizer_for_slot(name, quantizer)
            setattr(self, slot_attribute(name), quantizer)
            self._settle(quantizer)
        if self.adapter.pads:
            self.pad_values = check_pad_values(layer.name, pad_values, layer.padding)
        for slot in filled_slots(self):
            constraint = getattr(self, f"{slot.name}_constraint", None)
            if not slot.is_activation and constraint is None and _starves(slot.quantizer):
                warnings.warn(
                    f"{slot.key}={slot.quantizer!r} has no gradient "
                    "for weights beyond its support, and without a constraint they can "
                    "end up there and never learn again (starved weights). Add "
                    f"{slot.name}_constraint='weight_clip'.",
                    StarvedWeightsWarning,
                    stacklevel=1,  # one place, so that Python shows it once
                )

    def _settle(self, quantizer: Any) -> None:
        """Freeze a quantizer of a frozen layer, and restore the order of variables.

        Those of the layer come first and then those of the slots in their order, in
        whatever order these were filled.
        """
        if isinstance(quantizer, keras.layers.Layer) and not self.trainable:  # type: ignore[attr-defined]
            quantizer.trainable = False
        keras_internals.put_last(self, [slot.quantizer for slot in filled_slots(self)])

    def _post_build(self) -> None:
        # Keras runs this after build, before it locks the layer against new variables.
        self._settle(None)
        for slot in filled_slots(self):
            self._prepare_slot(slot)
        self._link_variables()
        super()._post_build()  # type: ignore[misc]

    def _link_variables(self) -> None:
        for slot in weight_slots(self):
            link_to_slot(slot.variable, self, slot.name)

    def _prepare_slot(self, slot: Slot, tried: bool = False) -> None:
        """Build the quantizer of a slot, and raise if it cannot serve there."""
        self._build_slot(slot)
        self._check_strategy(slot)
        variable = slot.variable
        if not tried and slot.quantizer is not None and variable is not None:
            shape = tuple(variable.shape)
            with errors_located(path_of(self), slot.name, shape):
                check_fit(slot.quantizer, shape, variable.dtype, slot.channel_axis)

    def _build_slot(self, slot: Slot) -> None:
        quantizer = slot.quantizer
        if not isinstance(quantizer, keras.layers.Layer) or quantizer.built:
            return
        if isinstance(quantizer, Quantizer):
            quantizer.channel_axis = slot.channel_axis
        shape = self._shape_of(slot)
        if shape is None:  # a bias under use_bias=False
            return
        with errors_located(path_of(self), slot.name, tuple(shape)):
            quantizer.build(shape)

    def _check_strategy(self, slot: Slot) -> None:
        layer: Any = self
        quantizer = slot.quantizer
        if not getattr(quantizer, "variables", None) or not layer.variables:
            return
        strategy = keras_internals.strategy_of(layer)
        if keras_internals.strategy_of(quantizer) is not strategy:
            scope = "outside of any" if strategy is None else "within the same"
            raise ArgumentError(
                "the replicas of a tf.distribute strategy have copies of the variables of "
                f"either {layer.name!r} or its {slot.key}={quantizer!r}, not of "
                f"both. Make that quantizer {scope} strategy.scope()."
            )

    def _shape_of(self, slot: Slot) -> Any:
        """The shape of the tensor that a slot quantizes."""
        if not slot.is_activation:
            return getattr(slot.variable, "shape", None)
        shapes = [*(keras_internals.build_shapes(self) or {}).values()]
        shape = next(iter(shapes), None) or keras_internals.input_shape(self)
        if shape is None:
            return None
        if slot.name in ("preactivation", "output"):
            return self._shape_of_output(shape, *shapes[1:])
        if self.adapter.inputs:
            number = slot.name.removeprefix("input").removeprefix("_") or 1
            return shape[int(number) - 1]
        return shape

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The spec of Keras; builds quantizers whose shape was not known before."""
        outputs = super().compute_output_spec(*args, **kwargs)  # type: ignore[misc]
        inputs = args[0] if args else kwargs.get(self.first_argument)
        for slot in filled_slots(self):
            quantizer = slot.quantizer
            if not slot.is_activation or getattr(quantizer, "built", True):
                continue
            tensors = tree.flatten(inputs if slot.name.startswith("input") else outputs)
            with errors_located(path_of(self), slot.name, tuple(tensors[0].shape)):
                quantizer.build(tensors[0].shape)
        return outputs

    def _shape_of_output(self, shape: Any, *others: Any) -> Any:
        """The shape of the first output."""
        layer: Any = self
        if isinstance(getattr(layer, "output_size", None), int):  # a recurrent cell
            return (*shape[:-1], layer.output_size)
        try:
            output = layer.compute_output_shape(shape, *others)
        except NotImplementedError:
            # A custom layer need not define it: Keras makes a symbolic call.
            inputs = keras.KerasTensor(shape, layer.compute_dtype)
            output = tree.flatten(layer.compute_output_spec(inputs))[0].shape
        while isinstance(output[0], (list, tuple)):
            output = output[0]
        return output

    def _quantized_call(self, base: type, *args: Any, **kwargs: Any) -> Any:
        """The call of `base` with quantized input, weights and output."""
        self.refuse_training_in_scope()
        running = running_slots(self)
        by_name = {slot.name: slot for slot in running}
        if "input" in by_name:
            args, kwargs = self._with_first_argument(
                by_name["input"].quantize, args, kwargs
            )
        if self.adapter.inputs:
            args, kwargs = self._with_first_argument(
                lambda inputs: _each_quantized(inputs, by_name), args, kwargs
            )
        values = values_in_call(self, running)
        if "preactivation" in by_name:
            values["activation"] = _activated(self, by_name["preactivation"])
        if getattr(self, "pad_values", 0) and self.padding == "same":  # type: ignore[attr-defined]
            args, kwargs = self._with_first_argument(
                lambda inputs: pad_same(self, inputs, self.pad_values), args, kwargs
            )
            values["padding"] = "valid"
        with substituted(self, values):
            outputs = base.call(self, *args, **kwargs)  # type: ignore[attr-defined]
        return by_name["output"].quantize(outputs) if "output" in by_name else outputs

    def quantized_weights(self) -> dict[str, Any]:
        """The quantized values by attribute, in the dtypes of the latent weights."""
        return {slot.attribute: slot.quantized_value() for slot in weight_slots(self)}

    def _with_first_argument(
        self, change: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        name = self.first_argument
        return args, {**kwargs, name: change(kwargs[name])}

    def get_config(self) -> dict[str, Any]:
        """The config of the Keras layer, and an identifier for each slot."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        identifiers = []
        for slot in slots_of(self):
            config[slot.key] = quantizers.serialize(slot.quantizer)
        for key in config:
            value = getattr(self, key, None)
            if isinstance(value, Configurable):
                identifiers.append(value.identifier)
                config[key] = str(value.identifier)
        if self.adapter.pads:
            config["pad_values"] = self.pad_values
        return {**config, **requirements(identifiers)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Create the layer of a config, with its identifiers resolved."""
        config = without_requirements(config)
        # Resolved here, since Keras wraps the errors of a constructor.
        resolved = {k: resolve(cls, k, v) for k, v in config.items()}
        with warnings.catch_warnings():
            # The user was warned when the layer was created.
            warnings.simplefilter("ignore", StarvedWeightsWarning)
            return super().from_config(resolved)  # type: ignore[misc]

    __reduce__ = keras_internals.reduce


def _each_quantized(inputs: Any, by_name: Mapping[str, Slot]) -> list[Any]:
    """The inputs of a merge, each quantized by its own slot."""
    slots = [by_name.get(f"input_{i}") for i in range(1, len(inputs) + 1)]
    pairs = zip(inputs, slots, strict=True)
    return [x if slot is None else slot.quantize(x) for x, slot in pairs]


def _activated(layer: Any, slot: Slot) -> Callable[[Any], Any]:
    """The activation of a layer, after the quantizer of its input."""
    activation = layer.activation

    def activated(x: Any) -> Any:
        x = slot.quantize(x)
        return x if activation is None else activation(x)

    return activated


def _starves(quantizer: Any) -> bool:
    return isinstance(quantizer, Quantizer) and quantizer.traits.support is not None
