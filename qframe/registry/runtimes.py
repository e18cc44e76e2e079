"""Modules of plugins that are words of qframe, such as ``qframe.packed``.

A plugin's exporter names the module that runs what it writes. Its code stays with the
plugin; the name under which it is imported is that of the target.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_PARENT = "qframe"


class _Runtimes(MetaPathFinder, Loader):
    """Finds ``qframe.<target>`` for an import statement, after all submodules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        if parent != _PARENT or name not in names():
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # Python takes what is in its place afterwards, and leaves that as it is.
        sys.modules[module.__name__] = _exporters().runtime(module.__name__.split(".")[1])


def install() -> None:
    """Let import statements find the runtimes; once in a process."""
    if not any(type(finder).__name__ == _Runtimes.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_Runtimes())


def load(name: str) -> Any:
    """The module that runs what the target of this name writes; mostly None."""
    package = sys.modules[_PARENT]
    if name.startswith("_") or PathFinder.find_spec(f"{_PARENT}.{name}", package.__path__):
        return None
    return _exporters().runtime(name)


def names() -> list[str]:
    """The targets that have a runtime; none where plugins cannot be read."""
    from qframe.errors import QFrameError

    try:
        found: list[str] = _exporters().runtimes()
    # Nobody who asks for names expects an error, as of QFRAME_STRICT_PLUGINS.
    except QFrameError:
        return []
    return found


def _exporters() -> Any:
    # Importing qframe finds no plugins.
    return importlib.import_module(f"{_PARENT}.exporters")
