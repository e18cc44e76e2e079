"""Functions that are compiled when a model needs them, and are called by their address."""

from __future__ import annotations

import hashlib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

import attrs
import numba
from numba import types
from numba.core.dispatcher import Dispatcher

from qframe_packed.compiled.notices import noticed
from qframe_packed.compiled.processor import TARGET

_LOCK = threading.RLock()


def digest(folder: Path) -> str:
    """A name for the version of the kernels in a folder, on this processor."""
    contents = hashlib.sha256(repr(TARGET).encode())
    for path in sorted(folder.glob("*.py")):
        contents.update(path.read_bytes())
    return contents.hexdigest()[:16]


_VERSION = digest(Path(__file__).parent)


@attrs.define(eq=False)
class Function:
    """A function that is compiled, or loaded from numba's cache, at its first use.

    Args:
        body: a function for numba, or an emitter of LLVM code.
        arguments: types of its arguments.
        compiler: numba's decorator.
    """

    body: Any
    arguments: tuple[Any, ...]
    compiler: Callable[..., Any] = numba.cfunc
    _result: Any = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """Its name, which no other function has."""
        return f"{self.body.__module__.rpartition('.')[2]}.{self.body.__qualname__}"

    @property
    def is_compiled(self) -> bool:
        """Whether it has been used."""
        return self._result is not None

    @property
    def compiled(self) -> Any:
        """What numba makes of it."""
        if self._result is None:
            with _LOCK:
                if self._result is None:
                    self._result = self._compile()
        return self._result

    @property
    def address(self) -> int:
        """Address of its code."""
        return int(self.compiled.address)

    def _compile(self) -> Any:
        source, signature = self._source(), types.void(*self.arguments)
        # Nothing is raised, for example where a number is divided by zero.
        options = {"error_model": "numpy"}
        try:
            return self.compiler(signature, cache=True, **options)(source)
        except (RuntimeError, OSError) as error:
            warnings.warn(
                f"numba cannot keep what it compiles ({error}), so that each process "
                "compiles again. Set the variable NUMBA_CACHE_DIR to a folder that can be "
                "written.",
                stacklevel=2,
            )
            return self.compiler(signature, **options)(source)

    def _source(self) -> Any:
        """The body as a Python function with the name of this version."""
        if isinstance(self.body, Dispatcher):
            body = self.body.py_func
            source = FunctionType(body.__code__, body.__globals__)
        else:
            names = ", ".join(names_of(self.body))
            scope = {"__name__": __name__, "emit": self.body}
            text = f"def source({names}):\n    emit({names})"
            # Numba keeps compiled code beside the file of its source, which has to exist.
            exec(compile(text, __file__, "exec"), scope)
            source = scope["source"]
        # Numba keeps compiled code under this name, and compares no other file with it.
        source.__qualname__ = f"{self.name}_{_VERSION}"
        return source


_FUNCTIONS: dict[tuple[Any, ...], Function] = {}


def names_of(body: Any) -> list[str]:
    """The arguments of a function for numba, or of an emitter without its builder."""
    names = [*inspect.signature(body).parameters]
    return names if isinstance(body, Dispatcher) else names[1:]


def function(body: Any, *arguments: Any) -> Function:
    """The function with this body, for arguments of these types."""
    new = Function(body, arguments)
    # Threads may ask for it at the same time, and get the same one.
    known = _FUNCTIONS.setdefault((new.name, arguments), new)
    if known.body is not body:
        raise ValueError(f"two functions are called {new.name!r}.")
    return known


def prepare(functions: Iterable[Function]) -> None:
    """Compile functions that have not been used, or load them from numba's cache."""
    missing = [function for function in functions if not function.is_compiled]
    if missing:
        with noticed("Compiling kernels for this processor, once"):
            for function in missing:
                function.compiled  # noqa: B018
