"""The check that all components of a plugin can be loaded."""

from __future__ import annotations

import inspect
from typing import Any

import attrs

from qframe.cli.backend import start_backend
from qframe.errors import PluginError, shown
from qframe.registry.components import AdapterComponent, Component, ExporterComponent
from qframe.registry.discovery import Plugin, registry


@attrs.frozen
class Fault:
    """A fault of a plugin or of one of its components.

    Args:
        name: the name of the plugin or the component.
        message: the error.
    """

    name: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """The fault as JSON types."""
        return {"name": self.name, "message": self.message}

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


def faults_of(plugin: Plugin) -> list[Fault]:
    """Load all components of a plugin, and return its faults."""
    if plugin.error:
        place = f" ({plugin.place})" if plugin.place else ""
        return [Fault(plugin.namespace, f"{plugin.error}{place}")]
    if plugin.components:
        start_backend()
    faults = [Fault(c.qualified_name, _fault(c)) for c in plugin.components]
    return [fault for fault in faults if fault.message]


def _fault(component: Component) -> str:
    try:
        target = registry.load(component)
        if isinstance(component, ExporterComponent):
            component.load_runtime()
    except PluginError as error:
        return str(error)
    form, valid = _expected(component, target)
    if valid:
        return ""
    place = f" ({component.place})" if component.place else ""
    return (
        f"{component.kind} {component.qualified_name!r} points at {component.target}, "
        f"which is not {form} but {shown(target)}{place}. Write the target of one."
    )


def _expected(component: Component, target: Any) -> tuple[str, bool]:
    """The kind of object that a target must be, and whether it is one."""
    if isinstance(component, AdapterComponent):
        import keras

        layer = inspect.isclass(target) and issubclass(target, keras.layers.Layer)
        return "a Keras layer class", layer
    if component.kind == "recipe":
        return "a function", inspect.isroutine(target)
    if isinstance(component, ExporterComponent) or component.kind == "rounder":
        return "a class", callable(target)
    valid = inspect.isclass(target) and getattr(target, "kind", None) == component.kind
    return f"a class of a {component.kind}", valid
