"""Modules of plugins that are imported as modules of qframe, such as ``qframe.packed``.

An exporter of a plugin names the module that runs its files. The module is imported under
the name of the target.
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
        # Python returns the module that is in sys.modules afterwards.
        sys.modules[module.__name__] = _registry().runtime(module.__name__.split(".")[1])


def install() -> None:
    """Let import statements find the runtimes; later calls do nothing."""
    if not any(type(finder).__name__ == _Runtimes.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_Runtimes())


def load(name: str) -> Any:
    """The module that runs the files of a target; None for other names."""
    package = sys.modules[_PARENT]
    if name.startswith("_") or PathFinder.find_spec(f"{_PARENT}.{name}", package.__path__):
        return None
    return _registry().runtime(name)


def names() -> list[str]:
    """The targets with a runtime; empty if plugins cannot be read."""
    from qframe.errors import QFrameError

    try:
        return _registry().runtimes()
    # Listing names must not fail, even with QFRAME_STRICT_PLUGINS.
    except QFrameError:
        return []


def _registry() -> Registry:
    # Importing qframe imports this module, and must not read plugins.
    from qframe.registry.discovery import registry

    return registry
