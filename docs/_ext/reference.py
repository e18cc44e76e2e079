"""The public names of a module in the pages, from their docstrings.

``<!-- names of MODULE -->`` is what a module offers, ``<!-- names of MODULE: A, B -->`` a
part of it, and ``<!-- quantizers of the plugins -->``, or another kind, what plugins offer.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import keras
from sphinx.application import Sphinx

from qframe.quantizers import Quantizer
from qframe.registry.discovery import FIRST_PARTY, registry


def public_names(module: ModuleType) -> Iterator[str]:
    """The names that a module offers, without modules: ``__all__``, else its own names."""
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
    ]
    for name in getattr(module, "__all__", own):
        if not (name.startswith("__") or isinstance(getattr(module, name), ModuleType)):
            yield name


def plugin_names(kind: str) -> list[str]:
    """The names of the classes of a kind that come with qframe."""
    components = registry.components(kind)
    own = [c for c in components if c.distribution == FIRST_PARTY]
    return sorted({registry.load(component).__name__ for component in own})


def directive(module: str, name: str) -> str:
    """The directive by which autodoc describes a name."""
    value: Any = getattr(importlib.import_module(module), name)
    if not inspect.isclass(value):
        kind = "function" if inspect.isroutine(value) else "data"
        return f".. auto{kind}:: {module}.{name}"
    # All members of a layer other than a quantizer are those of Keras.
    whole = not issubclass(value, keras.layers.Layer) or value is Quantizer
    members = "\n   :members:" if whole else ""
    return f".. autoclass:: {module}.{name}{members}"


def described(module: str, names: Iterator[str] | list[str]) -> str:
    """Names of a module, in Markdown."""
    body = "\n\n".join(directive(module, name) for name in names)
    return f"```{{eval-rst}}\n.. py:currentmodule:: {module}\n\n{body}\n```"


def expand(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the names into a page that asks for them."""

    def names(match: re.Match[str]) -> str:
        module, chosen = match.groups()
        offered = public_names(importlib.import_module(module))
        some = chosen.split(", ") if chosen else offered
        return described(module, some)

    def of_plugins(match: re.Match[str]) -> str:
        return described(f"qframe.{match[1]}s", plugin_names(match[1]))

    text = re.sub(r"<!-- names of ([\w.]+)(?:: (.+?))? -->", names, source[0])
    source[0] = re.sub(r"<!-- (\w+)s of the plugins -->", of_plugins, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the expansion of lists of names with Sphinx."""
    app.connect("source-read", expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
