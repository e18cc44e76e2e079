"""A layer that Keras saves as a whole, with the settings of the layers inside it.

Keras writes one config for a child of a functional model and one for a subclassed model,
without a config of the layers inside. The config of a composite consists of that of the
plain Keras layer and, by position, the settings of each quantized layer in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import QFrameError
from qframe.layers.adapters import origins_of
from qframe.layers.arguments import module_of
from qframe.layers.attachment import (
    Recurrent,
    add_mixin,
    float_class_of,
    is_explicit,
    recurrent_layers,
    replace,
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
    """The mixin of a unit, registered with Keras under one name for all classes."""

    def get_config(self) -> dict[str, Any]:
        """The config of the Keras layer, and the plan for the layers inside."""
        identifiers, adapters, plan = [], [], {}
        for site in within(self):
            if not isinstance(site.layer, Quantized):
                continue
            settings = _settings(site.layer)
            values = settings.values()
            identifiers += [v.identifier for v in values if isinstance(v, Configurable)]
            # The layer can be loaded only with the plugin that offers its adapter.
            components = origins_of(type(site.layer))
            adapters += [Identifier(c.name, c.namespace) for c in components]
            plan[_position_key(site)] = {
                key: module_of(key).serialize(value) for key, value in settings.items()
            }
        with _as_float(self):
            base = keras.saving.serialize_keras_object(self)
        # Keras writes and applies these for the composite.
        for key in ("build_config", "compile_config"):
            base.pop(key, None)
        return {"base": base, "plan": plan, **requirements(identifiers + adapters)}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable("qframe", "Quantized")(cls)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Create the Keras layer of a config, and quantize the layers inside it."""
        required = config.get("qframe_requires", {})
        config = without_requirements(config)
        for component in registry.components("adapter"):
            if component.namespace in required:
                registry.load(component)  # its import registers the class with Keras
        layer = keras.saving.deserialize_keras_object(config["base"])
        add_mixin(layer, Composite)
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
        """Build the Keras layer, and quantize the layers that the build adds."""
        # Keras builds a subclassed model by a call, without _post_build.
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
            # The call built the layers inside, which can be quantized only now.
            _apply(self)
            outputs = super().__call__(*args, **kwargs)  # type: ignore[misc]
        return outputs


# A file may be loaded before the first composite exists: register the name now.
type("Quantized", (Composite, keras.layers.Layer), {})


def make_composites(site: Site) -> None:
    """Let the config of each unit around a quantized layer include its settings."""
    for unit in site.units:
        if not (unit is site.layer and is_explicit(unit)):
            add_mixin(unit, Composite)


def update_composites(model: Any, changed: Iterable[Any]) -> None:
    """Turn the units of a model into composites, or back, after these layers changed."""
    all_sites, ids = list(sites(model)), {id(layer) for layer in changed}
    for site in all_sites:
        if id(site.layer) in ids and isinstance(site.layer, Quantized):
            make_composites(site)
    _make_recurrent(all_sites)
    for site in all_sites:
        if isinstance(site.layer, Composite | Recurrent) and not _is_needed(site.layer):
            site.layer.__class__ = float_class_of(site.layer)


def _make_recurrent(all_sites: Iterable[Site]) -> None:
    """Make the layers around quantized cells `Recurrent`."""
    for layer in recurrent_layers([site.layer for site in all_sites]):
        add_mixin(layer, Recurrent)


def _is_needed(layer: Any) -> bool:
    quantized = any(isinstance(site.layer, Quantized) for site in within(layer))
    return quantized or bool(layer.__dict__.get(_PENDING))


def _update_models(changed: Sequence[Any]) -> None:
    """Update all live models, since none is notified of a change of its layers."""
    ids = {id(layer) for layer in changed}
    for model in keras_internals.models_alive():
        if not ids.isdisjoint(map(id, keras_internals.all_layers(model))):
            update_composites(model, changed)


after_change.append(_update_models)


@contextlib.contextmanager
def _as_float(unit: Any) -> Iterator[None]:
    """Give a unit and the layers inside their Keras classes, for Keras to save them.

    Explicit ones, such as a QuantDense, stay: their config is complete.
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
    """The quantizers and constraints of a layer by key, for an entry of a plan."""
    slots = slots_of(layer)
    keys = [f"{slot.name}_constraint" for slot in slots if not slot.is_activation]
    settings = {slot.key: slot.quantizer for slot in slots}
    settings |= {key: getattr(layer, key, None) for key in keys}
    return {key: value for key, value in settings.items() if value is not None}


def _position_key(site: Site) -> str:
    """The key of a layer in a plan."""
    return ".".join(map(str, site.position))


def _apply(unit: Any) -> None:
    """Apply the pending plan to the layers that are built."""
    pending = unit.__dict__.get(_PENDING)
    if not pending:
        return
    inside = list(within(unit))
    for site in inside:
        key = _position_key(site)
        if key in pending and site.layer.built:
            settings = pending[key].items()
            # `replace`: the plan may lack a setting that the code of a layer includes.
            replace(site.layer, {name: module_of(name).get(v) for name, v in settings})
            make_composites(site)
            del pending[key]
    _make_recurrent(inside)
