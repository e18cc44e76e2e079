"""Exporters: what a plugin writes a model as, by the name of the target."""

from __future__ import annotations

from typing import Any

import attrs

from qframe.errors import PluginError, UnknownNameError
from qframe.paths import AnyPath, OutputPath
from qframe.registry.components import ExporterComponent
from qframe.registry.configurable import arguments_of, construct
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

__all__ = ["Export", "export", "runtime", "runtimes"]


@attrs.frozen
class Export:
    """A file to be written, all arguments of which are right.

    Args:
        write: of a model and a path.
        target: where the file goes.
    """

    write: Any
    target: OutputPath

    @classmethod
    def check(cls, path: AnyPath, target: str, *, force: bool) -> Export:
        """An export to this path; raises `QFrameError` where there can be none.

        Args:
            path: where the file goes; it ends in the suffix of the target.
            target: an identifier of an exporter.
            force: replace a file that is there already.
        """
        identifier = Identifier.parse(target, positional=True)
        component = registry.resolve("exporter", identifier)
        if not isinstance(component, ExporterComponent):
            raise PluginError(
                f"the exporter {component.qualified_name!r} says no suffix. Its plugin is "
                "to yield qframe.registry.components.exporter(...)."
            )
        place = OutputPath.check(path, component.suffix, force=force)
        arguments = arguments_of(component, identifier)
        return cls(construct(registry.load(component), arguments), place)

    def run(self, model: Any) -> None:
        """Write the file, or nothing at all."""
        self.target.write(lambda draft: self.write(model, draft))


def export(model: Any, path: AnyPath, *, target: str) -> None:
    """Write a model as a file for another runtime.

    A file that is there already is replaced, at once and as a whole. When the target has
    no place for something in the model, nothing is written.

    Args:
        model: a built Keras model.
        path: where the file goes; it ends in the suffix of the target.
        target: an identifier of an exporter, such as ``"packed"``; ``qframe list --kind
            exporter`` names all of them.

    Raises:
        UnknownNameError: no plugin offers this target.
        ArgumentError: the target does not take these arguments.
        OutputError: the file cannot be written, or has another suffix.
        ExportError: the target has no place for something in the model.

    Example:
        >>> import qframe as qf
        >>> qf.export(model, "m.safetensors", target="packed")  # doctest: +SKIP
    """
    Export.check(path, target, force=True).run(model)


def runtimes() -> list[str]:
    """The names of the targets whose files a module runs."""
    found = (c for c in registry.components("exporter") if isinstance(c, ExporterComponent))
    return [name for component in found if component.runtime for name in component.names]


def runtime(name: str) -> Any:
    """The module that runs what the target of this name writes; None without one."""
    try:
        component = registry.resolve("exporter", Identifier(name))
    except UnknownNameError:
        return None
    return component.load_runtime() if isinstance(component, ExporterComponent) else None
