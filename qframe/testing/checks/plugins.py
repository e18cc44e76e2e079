"""Plugins: the manifest, and the components in it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterable

from qframe.errors import PluginError, did_you_mean
from qframe.layers.adapters import adapter_of
from qframe.passes.bit_widths.metrics import KIND, SensitivityMetric, metric_of
from qframe.recipes import Recipe
from qframe.registry.components import Component, ExporterComponent
from qframe.registry.configurable import missing_arguments
from qframe.registry.discovery import Plugin, registry
from qframe.registry.identifier import Identifier
from qframe.testing.check import Check, require
from qframe.testing.subjects import SUBJECTS, Subject

_BACKENDS = ("keras", "tensorflow", "jax", "torch")


def plugin_of(namespace: str) -> Plugin:
    """The installed plugin of a namespace; raises `PluginError` if it is not installed."""
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
    """Each component without required arguments, and the components of identifiers."""
    subjects = [(_kind_of(text, namespace), text) for text in identifiers]
    for component in plugin_of(namespace).components:
        if _of_its_kind(component) and not missing_arguments(registry.load(component)):
            subjects.append((component.kind, component.qualified_name))
    return [SUBJECTS[kind](text) for kind, text in subjects]


def _kind_of(text: str, namespace: str) -> str:
    identifier = Identifier.parse(text, positional=True)
    for component in plugin_of(namespace).components:
        names = component.names if identifier.namespace in (None, namespace) else ()
        if identifier.name in names and component.kind in SUBJECTS:
            return component.kind
    raise PluginError(
        f"plugin {namespace!r} has no quantizer or constraint {text!r}."
        + did_you_mean(
            identifier.name, [n for c in plugin_of(namespace).components for n in c.names]
        )
    )


def _of_its_kind(component: Component) -> bool:
    """True if the target of a component has the declared kind; `loads` reports others."""
    if component.kind not in SUBJECTS:
        return False
    try:
        target = registry.load(component)
    except PluginError:
        return False
    return inspect.isclass(target) and getattr(target, "kind", None) == component.kind


def manifest_checks(namespace: str, identifiers: Iterable[str]) -> list[Check]:
    """The checks of a plugin's manifest."""
    plugin, identifiers = plugin_of(namespace), list(identifiers)
    checks = [Check.of(check, namespace, plugin) for check in (reads, light)]
    for component in plugin.components:
        name = component.qualified_name
        checks.append(Check.of(loads, name, component, identifiers))
        checks.append(Check.of(documented, name, component))
    return checks


def reads(plugin: Plugin) -> None:
    """The manifest can be read, and yields components."""
    require(not plugin.error, f"it is broken: {plugin.error}.")
    require(not plugin.disabled, "it is disabled by QFRAME_DISABLE_PLUGINS.")
    require(plugin.components, "qframe_components yields nothing.")


def light(plugin: Plugin) -> None:
    """Importing the manifest, as listing names does, does not import a backend."""
    module = plugin.target.partition(":")[0]
    code = f"import sys, {module}; print(*{{*sys.modules}} & {set(_BACKENDS)!r})"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    error = process.stderr.strip()
    require(process.returncode == 0, f"importing {module} fails: {error}")
    imported = process.stdout.split()
    require(
        not imported,
        f"importing {module} imports {', '.join(sorted(imported))}; name targets as "
        "strings, 'module:Class', in another module.",
    )


def loads(component: Component, identifiers: list[str]) -> None:
    """The target has the declared kind, and can be constructed."""
    target = registry.load(component)
    if component.kind == "adapter":
        require(adapter_of(target), f"{component.target} is not a Keras layer class.")
    elif component.kind == "recipe":
        require(
            isinstance(target(), Recipe), f"{component.target} does not return a Recipe."
        )
    elif isinstance(component, ExporterComponent):
        require(callable(target()), f"{component.target} does not return a callable.")
        component.load_runtime()
    elif component.kind == KIND:
        require(
            isinstance(metric_of(component.qualified_name), SensitivityMetric),
            f"{component.target} is not a sensitivity metric.",
        )
    elif component.kind in SUBJECTS:
        require(
            _of_its_kind(component),
            f"{component.target} is not a {component.kind} class.",
        )
        names = {Identifier.parse(text, positional=True).name for text in identifiers}
        require(
            not missing_arguments(target) or names & set(component.names),
            f"{component.qualified_name} has arguments without defaults; name some in "
            f"`identifiers`, as in '{component.name}(argument=value)'.",
        )


def documented(component: Component) -> None:
    """It has a summary for `qframe list` and a docstring for `qframe show`."""
    require(component.summary.strip(), "its manifest gives no summary.")
    target = registry.load(component)
    require(
        (target.__dict__.get("__doc__") or target.__doc__ or "").strip(), "no docstring."
    )
