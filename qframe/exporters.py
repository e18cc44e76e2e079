"""Export of models to files for other runtimes."""

from __future__ import annotations

from typing import Any

import attrs

from qframe.errors import PluginError
from qframe.paths import AnyPath, OutputPath
from qframe.registry.components import ExporterComponent
from qframe.registry.configurable import arguments_of, construct
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

__all__ = ["Export", "export"]


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
