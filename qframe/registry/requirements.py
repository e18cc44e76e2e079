"""The distributions that a saved config requires, for errors to name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qframe.errors import UnknownNameError
from qframe.registry.discovery import FIRST_PARTY, registry
from qframe.registry.identifier import Identifier

_KEY = "qframe_requires"


def requirements(identifiers: Iterable[Identifier]) -> dict[str, dict[str, str]]:
    """An entry for a config, namespace -> distribution; empty without third parties."""
    plugins = registry.discover()
    required = {}
    for identifier in identifiers:
        plugin = plugins.get(identifier.namespace or "")
        if plugin is not None and plugin.distribution != FIRST_PARTY:
            required[plugin.namespace] = plugin.distribution
    return {_KEY: required} if required else {}


def without_requirements(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the entry; raises `UnknownNameError` for a missing plugin."""
    remaining = dict(config)
    for namespace, distribution in remaining.pop(_KEY, {}).items():
        plugin = registry.discover().get(namespace)
        if plugin is None or plugin.disabled or plugin.error:
            state = "is not installed"
            if plugin is not None:
                state = f"is broken: {plugin.error}" if plugin.error else "is disabled"
            raise UnknownNameError(
                f"this model needs the plugin {namespace!r}, which {state}. "
                f"Write: pip install {distribution}"
            )
    return remaining
