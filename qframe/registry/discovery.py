"""The discovery of plugins by entry points, and of components by names."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pluggy

from qframe.errors import (
    AmbiguousNameError,
    PluginError,
    UnknownNameError,
    UnknownPluginWarning,
    did_you_mean,
    shown,
)
from qframe.registry import hookspecs
from qframe.registry.components import AdapterComponent, Component, ExporterComponent
from qframe.registry.foreign import Failure, isolated
from qframe.registry.identifier import Identifier, without_key

GROUP = "qframe"
FIRST_PARTY = "keras-qframe"
LOCAL = "local"


@attrs.frozen
class Plugin:
    """An installed plugin: its components, or the error of its manifest."""

    namespace: str
    distribution: str
    version: str
    target: str
    components: tuple[Component, ...] = ()
    error: str = ""
    disabled: bool = False
    # The file and the line of the error, if known.
    place: str = ""


@attrs.define
class Registry:
    """All plugins and their components. `registry` is the one instance in use."""

    plugins: dict[str, Plugin] = attrs.field(factory=dict)
    _local: dict[tuple[str, str], Component] = attrs.field(factory=dict)
    _classes: dict[Component, Any] = attrs.field(factory=dict)
    _adapters: dict[str, list[AdapterComponent]] = attrs.field(factory=dict)
    # Layer class -> adapter, registered in this process.
    local_layers: dict[type, Any] = attrs.field(factory=dict)
    _discovered: bool = False

    def reset(self) -> None:
        """Forget the plugins; the next call discovers them again."""
        self.plugins.clear()
        self._classes = {c: self._classes[c] for c in self._local.values()}
        self._discovered = False

    def discover(self) -> dict[str, Plugin]:
        """Read every manifest once. A broken one is recorded, not raised."""
        if self._discovered:
            return self.plugins
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(hookspecs)
        disabled, allowed = _names("DISABLE"), _names("LOAD")
        strict = os.environ.get("QFRAME_STRICT_PLUGINS", "") not in ("", "0")
        self.plugins.clear()  # an error may have interrupted the last call
        pairs = list(_entry_points())
        _check_names({plugin.namespace for plugin, _ in pairs}, strict=strict)
        for plugin, entry in pairs:
            namespace = plugin.namespace
            if namespace in self.plugins:
                owner = self.plugins[namespace].distribution
                error = f"the namespace {namespace!r} belongs to {owner} already"
                plugin = attrs.evolve(plugin, error=f"{error}; uninstall one of the two")
                namespace = f"{namespace} ({plugin.distribution})"
            elif namespace in disabled or (allowed and namespace not in allowed):
                plugin = attrs.evolve(plugin, disabled=True)
            else:
                plugin = _read(manager, plugin, entry)
            if plugin.error and strict:
                raise PluginError(
                    f"plugin {namespace!r} (distribution {plugin.distribution}) is "
                    f"broken: {plugin.error}. QFRAME_STRICT_PLUGINS is set; unset it "
                    "to go on without this plugin."
                )
            self.plugins[namespace] = plugin
        self._discovered = True
        self._adapters = {}
        for component in self.components("adapter"):
            if isinstance(component, AdapterComponent):
                self._adapters.setdefault(component.package, []).append(component)
        return self.plugins

    def adapters(self) -> Mapping[str, list[AdapterComponent]]:
        """The adapters by the top-level package of their layer classes."""
        self.discover()
        return self._adapters

    def components(self, kind: str | None = None) -> list[Component]:
        """The components of a kind, or all of them, by qualified name."""
        every = [c for p in self.discover().values() for c in p.components]
        every += self._local.values()
        return sorted(
            (c for c in every if kind in (None, c.kind)),
            key=lambda c: (c.kind, c.qualified_name),
        )

    def register(self, kind: str, cls: type, name: str, *aliases: str) -> Component:
        """Register a class as ``local:name`` in this process; replaces an earlier one."""
        target = f"{cls.__module__}:{cls.__name__}"
        component = Component(kind, name, target, aliases=aliases, namespace=LOCAL)
        self._local[kind, name] = component
        self._classes[component] = cls
        return component

    def forget_local(self) -> None:
        """Forget what was registered in this process."""
        self._local.clear()
        self.local_layers.clear()
        self.reset()

    def resolve(self, kind: str, identifier: Identifier) -> Component:
        """The component that an identifier names.

        A qualified name is looked up in its plugin, a bare name or alias in all plugins.
        The only match wins, else the local one, else the first-party one; else the error
        lists the choices. A bare name that is also the namespace of another plugin with
        such components may mean both.
        """
        matches = [
            c
            for c in self.components(kind)
            if identifier.name in c.names and identifier.namespace in (None, c.namespace)
        ]
        first_party = [c for c in matches if c.distribution == FIRST_PARTY]
        local = [c for c in matches if c.namespace == LOCAL]
        for candidates in (matches, local, first_party):
            if len(candidates) == 1:
                if identifier.positional and not candidates[0].positional:
                    raise without_key(str(identifier), identifier.positional[0])
                if identifier.namespace is None:
                    self._check_namespaces(candidates[0], identifier.name)
                return candidates[0]
        if matches:
            choices = ", ".join(repr(c.qualified_name) for c in matches)
            raise AmbiguousNameError(
                f"{kind} {identifier.name!r} is offered by several plugins: {choices}. "
                "Write one of these qualified names."
            )
        raise self._unknown(kind, identifier)

    def _check_namespaces(self, found: Component, name: str) -> None:
        """Raise where a bare name is also the namespace of other components of its kind."""
        others = [c for c in self.components(found.kind) if c.namespace == name]
        if others and found.namespace != name:
            raise AmbiguousNameError(
                f"{name!r} is the {found.kind} '{found.qualified_name}', and the plugin of "
                f"{', '.join(repr(c.qualified_name) for c in others)}. Write one of these."
            )

    def runtimes(self) -> list[str]:
        """The names of the exporters whose files a module runs."""
        exporters = self.components("exporter")
        return [name for c in exporters if getattr(c, "runtime", "") for name in c.names]

    def runtime(self, name: str) -> Any:
        """The module that runs the files of an exporter; None without one."""
        try:
            component = self.resolve("exporter", Identifier(name))
        except UnknownNameError:
            return None
        return (
            component.load_runtime() if isinstance(component, ExporterComponent) else None
        )

    def load(self, component: Component) -> Any:
        """The class of a component, imported on first use."""
        if component not in self._classes:
            self._classes[component] = component.load()
        return self._classes[component]

    def component_of(self, cls: type) -> Component | None:
        """The component of a class; None for one that is not registered."""
        for component, loaded in self._classes.items():
            if loaded is cls:
                return component
        target = f"{cls.__module__}:{cls.__qualname__}"
        return next((c for c in self.components() if c.target == target), None)

    def _unknown(self, kind: str, identifier: Identifier) -> UnknownNameError:
        components = self.components(kind)
        namespace = identifier.namespace
        message = f"unknown {kind} {identifier.qualified_name!r}."
        if namespace == LOCAL:
            message += (
                " The namespace 'local' holds what a process registers itself: write "
                "qframe.register(...) for that class before this."
            )
        elif namespace is not None and namespace not in self.plugins:
            installed = sorted({c.namespace for c in self.components()})
            message += (
                f" No plugin {namespace!r} is installed (installed: "
                f"{', '.join(installed)})." + did_you_mean(namespace, installed)
            )
        names = {n for c in components for n in (*c.names, c.qualified_name)}
        hint = did_you_mean(identifier.qualified_name, names) + self._as_other(identifier)
        # A list of all names would hide the one that is meant.
        known = ", ".join(c.qualified_name for c in components) or "none"
        message += hint or f" Known: {known}."
        for plugin in self.plugins.values():
            label = f"Plugin {plugin.namespace!r} ({plugin.distribution})"
            if plugin.error:
                message += f" {label} is broken: {plugin.error}."
            elif plugin.disabled:
                message += (
                    f" {label} is disabled by QFRAME_DISABLE_PLUGINS or "
                    "QFRAME_LOAD_PLUGINS."
                )
        message += f" `qframe list --kind {kind}` shows all."
        return UnknownNameError(message)

    def _as_other(self, identifier: Identifier) -> str:
        """What a name that is unknown as one kind of component is as another."""
        for c in self.components():
            if identifier.name in c.names and identifier.namespace in (None, c.namespace):
                kind = c.kind.replace("_", " ")
                return (
                    f" {identifier.name!r} is the name of a {kind}: `qframe show "
                    f"{c.qualified_name}` says how it is used."
                )
        return ""


def _names(variable: str) -> set[str]:
    value = os.environ.get(f"QFRAME_{variable}_PLUGINS", "")
    return {name.strip() for name in value.split(",") if name.strip()}


def _check_names(installed: set[str], *, strict: bool) -> None:
    """Warn of names in the variables that no plugin has, such as typos."""
    for variable in ("DISABLE", "LOAD"):
        for name in sorted(_names(variable) - installed):
            message = (
                f"QFRAME_{variable}_PLUGINS names {name!r}, and no plugin {name!r} is "
                f"installed.{did_you_mean(name, installed)} Installed: "
                f"{', '.join(sorted(installed)) or 'none'}."
            )
            if strict:
                raise PluginError(f"{message} QFRAME_STRICT_PLUGINS is set.")
            warnings.warn(message, UnknownPluginWarning, stacklevel=4)


def _entry_points() -> Iterator[tuple[Plugin, importlib.metadata.EntryPoint]]:
    """The entry points without repetition, the first-party ones first, then by name."""
    seen: dict[Any, tuple[Plugin, importlib.metadata.EntryPoint]] = {}
    origin = functools.cache(_origin)  # reads the metadata of a distribution once
    for entry in importlib.metadata.entry_points(group=GROUP):
        distribution, version = origin(entry.dist)
        plugin = Plugin(entry.name, distribution, version, entry.value)
        # A distribution that is installed twice on the path is listed twice.
        seen.setdefault((entry.name, distribution), (plugin, entry))
    yield from sorted(
        seen.values(),
        key=lambda pair: (pair[0].distribution != FIRST_PARTY, pair[0].namespace),
    )


def _origin(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """The name and the version of a distribution, as far as its metadata has them."""
    try:
        metadata: Any = distribution.metadata if distribution else {}
        name, version = (metadata.get(key, "") for key in ("Name", "Version"))
    # The error for damaged metadata depends on the version of Python.
    except Exception:
        name, version = "", ""
    return name or "unknown", version or ""


def _read(
    manager: pluggy.PluginManager, plugin: Plugin, entry: importlib.metadata.EntryPoint
) -> Plugin:
    try:
        with isolated():
            return attrs.evolve(plugin, components=_components(manager, plugin, entry))
    except Failure as failure:
        return attrs.evolve(plugin, error=failure.reason, place=failure.place)


def _components(
    manager: pluggy.PluginManager, plugin: Plugin, entry: importlib.metadata.EntryPoint
) -> tuple[Component, ...]:
    manager.register(entry.load(), name=plugin.namespace)
    hooks = manager.hook.qframe_components.get_hookimpls()
    functions = [h.function for h in hooks if h.plugin_name == plugin.namespace]
    if not functions:
        raise PluginError(
            f"{plugin.target} has no function qframe_components marked with qframe.hookimpl"
        )
    components: list[Component] = []
    names: set[tuple[str, str]] = set()
    yielded: Any = functions[0]()
    for component in yielded:
        if not isinstance(component, Component):
            raise PluginError(
                f"qframe_components yielded {shown(component)}; yield "
                "qframe.registry.components.quantizer(...), constraint(...), recipe(...), "
                "adapter(...), exporter(...) or sensitivity_metric(...)"
            )
        for name in component.names:
            if (component.kind, name) in names:
                raise PluginError(f"{component.kind} {name!r} is offered twice")
            names.add((component.kind, name))
        components.append(
            attrs.evolve(
                component,
                namespace=plugin.namespace,
                distribution=plugin.distribution,
                place=_line(functions[0], yielded),
            )
        )
    return tuple(components)


def _line(function: Any, yielded: Any) -> str:
    """The file of a manifest, and its line that yields; for a list that of the function."""
    frame, code = getattr(yielded, "gi_frame", None), getattr(function, "__code__", None)
    if frame is not None:
        return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else ""


registry = Registry()
