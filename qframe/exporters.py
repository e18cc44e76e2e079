"""Export of models to files for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from qframe.errors import ArgumentError, PluginError
from qframe.paths import AnyPath, OutputPath, existing_file
from qframe.registry.components import ExporterComponent
from qframe.registry.configurable import arguments_of, construct
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

__all__ = ["Export", "ExportedFile", "export"]


@attrs.frozen
class Export:
    """An export with checked arguments.

    Args:
        write: a function of a model and a path.
        output: the path of the file.
    """

    write: Any
    output: OutputPath

    @classmethod
    def check(cls, path: AnyPath, target: str, *, force: bool) -> Export:
        """Check the arguments of an export; raises `QFrameError` for wrong ones.

        Args:
            path: the path of the file; it ends in the suffix of the target.
            target: an identifier of an exporter.
            force: overwrite an existing file.
        """
        identifier = Identifier.parse(target, positional=True)
        component = registry.resolve("exporter", identifier)
        if not isinstance(component, ExporterComponent):
            raise PluginError(
                f"the exporter {component.qualified_name!r} says no suffix. Its plugin is "
                "to yield qframe.registry.components.exporter(...)."
            )
        output = OutputPath.check(path, component.suffix, force=force)
        arguments = arguments_of(component, identifier)
        return cls(construct(registry.load(component), arguments), output)

    def run(self, model: Any) -> None:
        """Write the file, or nothing at all."""
        self.output.write(lambda draft: self.write(model, draft))


@attrs.frozen
class ExportedFile:
    """A file of an exporter with a runtime.

    Args:
        path: its path.
        component: the exporter.
    """

    path: Path
    component: ExporterComponent

    @classmethod
    def check(cls, path: AnyPath, target: str | None = None) -> ExportedFile:
        """Find the exporter of a file; raises `QFrameError` if none can run it.

        Args:
            path: the path of an existing file.
            target: an identifier of an exporter. Default None: the only one with a runtime
                whose files have this suffix.
        """
        component = _of_suffix(path) if target is None else _with_runtime(target)
        return cls(existing_file(path, component.suffix), component)

    def load(self) -> Any:
        """Return the runtime of the file, a `qframe.deployment.runtime.Runtime`."""
        return self.component.load_runtime().load(self.path)


def _of_suffix(path: AnyPath) -> ExporterComponent:
    """The only exporter with a runtime for the suffix of a path."""
    exporters = [
        component
        for component in registry.components("exporter")
        if isinstance(component, ExporterComponent) and component.runtime
    ]
    suffix = Path(path).suffix
    fitting = [component for component in exporters if component.suffix == suffix]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(repr(component.qualified_name) for component in fitting)
        raise ArgumentError(
            f"several exporters write files such as {path}: {names}. Write target= with "
            "one of them (--target on the command line)."
        )
    known = ", ".join(f"{c.suffix} ({c.qualified_name})" for c in exporters)
    raise ArgumentError(
        f"no runtime is known for {path}. These files can be run: {known or 'none'}. Name "
        "such a file, or write target= if it has another suffix than its exporter gives."
    )


def _with_runtime(target: str) -> ExporterComponent:
    identifier = Identifier.parse(target, positional=True)
    component = registry.resolve("exporter", identifier)
    if not isinstance(component, ExporterComponent) or not component.runtime:
        raise ArgumentError(
            f"the target {component.qualified_name!r} has no runtime: qframe can write its "
            "files, and not run them. Run the file where it is deployed, and compare what "
            "it returns with model.predict."
        )
    return component


def export(model: Any, path: AnyPath, *, target: str) -> None:
    """Write a model as a file for another runtime.

    An existing file is replaced as a whole. When the target does not support a part of the
    model, nothing is written.

    Args:
        model: a built Keras model.
        path: the path of the file; it ends in the suffix of the target.
        target: an identifier of an exporter, such as ``"packed"``; ``qframe list --kind
            exporter`` names all of them.

    Raises:
        UnknownNameError: no plugin offers this target.
        ArgumentError: the target does not take these arguments.
        OutputError: the file cannot be written, or has another suffix.
        ExportError: the target does not support a part of the model.

    Example:
        >>> import qframe as qf
        >>> qf.export(model, "m.safetensors", target="packed")  # doctest: +SKIP
    """
    Export.check(path, target, force=True).run(model)
