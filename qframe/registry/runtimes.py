"""Modules of plugins that are imported as modules of qframe, such as ``qframe.packed``.

A plugin's exporter names the module that runs the files it writes. The code stays with the
plugin; the name under which it is imported is that of the target.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qframe.registry.discovery import Registry

_PARENT = "qframe"


class _Runtimes:
    """Finds and loads ``qframe.<target>`` for an import statement, after all submodules.

    It has no base class: the import of `importlib.abc` takes longer than that of qframe.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        if parent != _PARENT or name not in names():
            return None
        loader: Any = self
        return ModuleSpec(fullname, loader)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # Python takes what is in its place afterwards, and leaves that as it is.
        sys.modules[module.__name__] = _registry().runtime(module.__name__.split(".")[1])


def install() -> None:
    """Let import statements find the runtimes; once in a process."""
    if not any(type(finder).__name__ == _Runtimes.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_Runtimes())


def load(name: str) -> Any:
    """The module that runs the files of the target of this name; mostly None."""
    package = sys.modules[_PARENT]
    if name.startswith("_") or PathFinder.find_spec(f"{_PARENT}.{name}", package.__path__):
        return None
    return _registry().runtime(name)


def names() -> list[str]:
    """The targets that have a runtime; none where plugins cannot be read."""
    from qframe.errors import QFrameError

    try:
        return _registry().runtimes()
    # Nobody who asks for names expects an error, as of QFRAME_STRICT_PLUGINS.
    except QFrameError:
        return []


def _registry() -> Registry:
    # Importing qframe imports this module, and reads no plugins.
    from qframe.registry.discovery import registry

    return registry
