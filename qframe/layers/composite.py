"""A layer that Keras saves as a whole, with the plan of what is quantized inside it.

Keras writes one config for a child of a functional model, and one for a subclassed model;
what is inside has no config of its own. A composite's config holds that of the plain Keras
layer and, by position, the slots of each layer in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import QFrameError
from qframe.layers.adapters import origins_of
from qframe.layers.arguments import vocabulary
from qframe.layers.attachment import (
    Recurrent,
    float_class_of,
    is_explicit,
    recurrent_layers,
    replace,
    swap,
)
from qframe.layers.quantized import Quantized
from qframe.layers.slots import slots_of
from qframe.layers.traces import after_change
from qframe.layers.tree import Site, sites, within
from qframe.registry.configurable import Configurable
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier
from qframe.registry.requirements import requirements, without_requirements

_PENDING = "_pending_plan"


class Composite:
    """The mixin of a unit; registered with Keras under one name for all classes."""

    def get_config(self) -> dict[str, Any]:
        """The config of the Keras layer, and the plan of what is quantized inside."""
        quantized = [s for s in within(self) if isinstance(s.layer, Quantized)]
        settings = {_place(site): _settings(site.layer) for site in quantized}
        named = [
            value.identifier
            for words in settings.values()
            for value in words.values()
            if isinstance(value, Configurable)
        ]
        # A plugin that knows a layer class is needed to load the layer.
        known = [c for s in quantized for c in origins_of(type(s.layer))]
        named += [Identifier(c.name, c.namespace) for c in known]
        plan = {
            place: {key: vocabulary(key).serialize(v) for key, v in words.items()}
            for place, words in settings.items()
        }
        with _as_float(self):
            base = keras.saving.serialize_keras_object(self)
        # Keras writes and applies these for the composite itself.
        for key in ("build_config", "compile_config"):
            base.pop(key, None)
        return {"base": base, "plan": plan, **requirements(named)}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable("qframe", "Quantized")(cls)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the Keras layer of a config, and quantize the layers inside it."""
        required = config.get("qframe_requires", {})
        config = without_requirements(config)
        for component in registry.components("adapter"):
            if component.namespace in required:
                registry.load(component)  # Keras knows a class once it is imported
        layer = keras.saving.deserialize_keras_object(config["base"])
        swap(layer, Composite)
        layer.__dict__[_PENDING] = config["plan"]
        _apply(layer)
        return layer

    def save_to_preset(self, preset_dir: Any, **_: Any) -> None:
        """Refuse KerasHub's presets, which are loaded by the class of the float model."""
        raise QFrameError(
            f"the preset {str(preset_dir)!r} cannot hold the quantizers of {self!r}. "
            'Save it with model.save("model.keras"), which qf.load_model reads; or, for a '
            "float preset, call qf.strip(model) before, and qf.quantize on what "
            "from_preset returns."
        )

    def _post_build(self) -> None:
        super()._post_build()  # type: ignore[misc]
        _apply(self)

    def build_from_config(self, config: Any) -> None:
        """Build the Keras layer, and quantize the layers that this adds."""
        # A subclassed model is built by a call, without _post_build.
        super().build_from_config(config)  # type: ignore[misc]
        _apply(self)
        pending = self.__dict__.get(_PENDING)
        if pending and self.built:  # type: ignore[attr-defined]
            raise QFrameError(
                f"the saved {self!r} quantizes layers inside it that this one does not "
                f"have (positions {', '.join(pending)}). Load it with the code that it "
                "was saved with."
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().__call__(*args, **kwargs)  # type: ignore[misc]
        if self.__dict__.get(_PENDING):
            # That call built what is inside, so now it can be quantized.
            _apply(self)
            outputs = super().__call__(*args, **kwargs)  # type: ignore[misc]
        return outputs


# So that the name is there before any composite is.
type("Quantized", (Composite, keras.layers.Layer), {})


def make_composites(site: Site) -> None:
    """Let the config of each unit around a quantized layer tell of its slots."""
    for unit in site.units:
        if not (unit is site.layer and is_explicit(unit)):
            swap(unit, Composite)


def tell_units(model: Any, changed: Iterable[Any]) -> None:
    """Let Keras save the slots of layers that changed, whatever in a model it asks.

    Args:
        model: a model or layer.
        changed: layers, in it or not, whose slots were filled or emptied.
    """
    all_sites, ids = list(sites(model)), {id(layer) for layer in changed}
    for site in all_sites:
        if id(site.layer) in ids and isinstance(site.layer, Quantized):
            make_composites(site)
    _make_recurrent(all_sites)
    for site in all_sites:
        if isinstance(site.layer, Composite | Recurrent) and not _is_needed(site.layer):
            site.layer.__class__ = float_class_of(site.layer)


def _make_recurrent(all_sites: Iterable[Site]) -> None:
    """Let the layers around quantized cells quantize once per call."""
    for layer in recurrent_layers([site.layer for site in all_sites]):
        swap(layer, Recurrent)


def _is_needed(layer: Any) -> bool:
    quantized = any(isinstance(site.layer, Quantized) for site in within(layer))
    return quantized or bool(layer.__dict__.get(_PENDING))


def _tell_models(changed: Sequence[Any]) -> None:
    """The same of all models alive: one around a layer does not see that it changes."""
    ids = {id(layer) for layer in changed}
    for model in keras_internals.models_alive():
        if not ids.isdisjoint(map(id, keras_internals.all_layers(model))):
            tell_units(model, changed)


after_change.append(_tell_models)


@contextlib.contextmanager
def _as_float(unit: Any) -> Iterator[None]:
    """Let a unit and what is inside be of their Keras classes, so that Keras can save them.

    Not the explicit ones inside, such as a QuantDense: their config says it all.
    """
    layers = [site.layer for site in within(unit)]
    before = [(layer, type(layer)) for layer in layers if not is_explicit(layer)]
    try:
        for layer, _ in before:
            layer.__class__ = float_class_of(layer)
        yield
    finally:
        for layer, cls in before:
            layer.__class__ = cls


def _settings(layer: Quantized) -> dict[str, Any]:
    """The quantizers and constraints of a layer by their keys, for an entry of a plan."""
    slots = slots_of(layer)
    keys = [f"{slot.name}_constraint" for slot in slots if not slot.is_activation]
    settings = {slot.key: slot.quantizer for slot in slots}
    settings |= {key: getattr(layer, key, None) for key in keys}
    return {key: value for key, value in settings.items() if value is not None}


def _place(site: Site) -> str:
    """The key of a layer in a plan."""
    return ".".join(map(str, site.position))


def _apply(unit: Any) -> None:
    """Attach what the plan says, as far as the layers are there."""
    pending = unit.__dict__.get(_PENDING)
    if not pending:
        return
    inside = list(within(unit))
    for site in inside:
        place = _place(site)
        if place in pending and site.layer.built:
            words = pending[place].items()
            # What an explicit layer has from its code may have been taken away.
            replace(site.layer, {key: vocabulary(key).get(value) for key, value in words})
            make_composites(site)
            del pending[place]
    _make_recurrent(inside)
