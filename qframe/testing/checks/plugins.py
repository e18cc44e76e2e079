"""A plugin: its manifest, and what the manifest names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterable

from qframe.errors import PluginError, did_you_mean
from qframe.layers.adapters import adapter_of
from qframe.recipes import Recipe
from qframe.registry.components import Component, ExporterComponent
from qframe.registry.configurable import missing_arguments
from qframe.registry.discovery import Plugin, registry
from qframe.registry.identifier import Identifier
from qframe.testing.check import Check, require
from qframe.testing.subjects import SUBJECTS, Subject

_BACKENDS = ("keras", "tensorflow", "jax", "torch")


def plugin_of(namespace: str) -> Plugin:
    """The installed plugin of a namespace; raises `PluginError` if there is none."""
    plugins = registry.discover()
    if namespace not in plugins:
        raise PluginError(
            f"no plugin {namespace!r} is installed."
            + did_you_mean(namespace, plugins)
            + f" Installed: {', '.join(plugins)}. An entry point of the group 'qframe' in "
            "pyproject.toml names a plugin; install its distribution again after a change."
        )
    return plugins[namespace]


def subjects_of(namespace: str, identifiers: Iterable[str]) -> list[Subject]:
    """What to check: each component that can be made, and what is asked for besides."""
    given = [(_kind_of(text, namespace), text) for text in identifiers]
    for component in plugin_of(namespace).components:
        if _of_its_kind(component) and not missing_arguments(registry.load(component)):
            given.append((component.kind, component.qualified_name))
    return [SUBJECTS[kind](text) for kind, text in given]


def _kind_of(text: str, namespace: str) -> str:
    identifier = Identifier.parse(text, positional=True)
    for component in plugin_of(namespace).components:
        own = identifier.namespace in (None, namespace)
        if own and identifier.name in component.names and component.kind in SUBJECTS:
            return component.kind
    raise PluginError(
        f"plugin {namespace!r} has no quantizer or constraint {text!r}."
        + did_you_mean(
            identifier.name, [n for c in plugin_of(namespace).components for n in c.names]
        )
    )


def _of_its_kind(component: Component) -> bool:
    """Whether the target of a component is what its kind says; `loads` tells where not."""
    try:
        target = registry.load(component)
    except PluginError:
        return False
    return inspect.isclass(target) and getattr(target, "kind", None) == component.kind


def manifest_checks(namespace: str, identifiers: Iterable[str]) -> list[Check]:
    """The checks of a plugin's manifest."""
    plugin, identifiers = plugin_of(namespace), list(identifiers)
    found = [Check.of(check, namespace, plugin) for check in (reads, light)]
    for component in plugin.components:
        name = component.qualified_name
        found.append(Check.of(loads, name, component, identifiers))
        found.append(Check.of(documented, name, component))
    return found


def reads(plugin: Plugin) -> None:
    """The manifest can be read, and it offers something."""
    require(not plugin.error, f"it is broken: {plugin.error}.")
    require(not plugin.disabled, "it is disabled by QFRAME_DISABLE_PLUGINS.")
    require(plugin.components, "qframe_components yields nothing.")


def light(plugin: Plugin) -> None:
    """Importing the manifest imports no backend, since listing names imports it."""
    module = plugin.target.partition(":")[0]
    code = f"import sys, {module}; print(*{{*sys.modules}} & {set(_BACKENDS)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    require(done.returncode == 0, f"importing {module} fails: {done.stderr.strip()}")
    imported = done.stdout.split()
    require(
        not imported,
        f"importing {module} imports {', '.join(sorted(imported))}; name targets as "
        "strings, 'module:Class', in a module of their own.",
    )


def loads(component: Component, identifiers: list[str]) -> None:
    """The target is what its kind says, and can be made."""
    target = registry.load(component)
    if component.kind == "adapter":
        require(adapter_of(target), f"{component.target} is no Keras layer class.")
    elif component.kind == "recipe":
        require(isinstance(target(), Recipe), f"{component.target} makes no Recipe.")
    elif isinstance(component, ExporterComponent):
        require(callable(target()), f"{component.target} makes nothing to be called.")
        component.load_runtime()
    elif component.kind in SUBJECTS:
        require(
            _of_its_kind(component),
            f"{component.target} is no class of a {component.kind}.",
        )
        asked = {Identifier.parse(text, positional=True).name for text in identifiers}
        require(
            not missing_arguments(target) or asked & set(component.names),
            f"{component.qualified_name} has arguments without defaults; name some in "
            f"`identifiers`, as in '{component.name}(argument=value)'.",
        )


def documented(component: Component) -> None:
    """It has a summary for `qframe list`, and a docstring of its own for `qframe show`."""
    require(component.summary.strip(), "its manifest gives no summary.")
    target = registry.load(component)
    require(
        (target.__dict__.get("__doc__") or target.__doc__ or "").strip(), "no docstring."
    )
