"""Pictures of quantizers in the pages, drawn while the site is built.

``<!-- picture of NAME -->`` is one of them; ``<!-- gallery -->`` is all of the registry,
with formula, paper and promises, from the docstring and the traits of each.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import matplotlib
from sphinx.application import Sphinx

import qframe as qf
from qframe.registry.components import Component
from qframe.registry.configurable import construct, named_parameters
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

# Few enough bits to see the steps; also for parameters without a default.
ARGUMENTS = {"bits": 3, "k_bit": 3, "precision": 3}
# The first section of a docstring, after its description.
SECTION = re.compile(r"^(Args|Raises|Returns|Example|Paper):", re.MULTILINE)
PAPER = re.compile(r"^Paper: (.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def entries() -> Iterator[str]:
    """The gallery in Markdown, without its pictures: ``<!-- picture of NAME -->``."""
    namespace = ""
    for component in registry.components("quantizer"):
        if "quantizer" in named_parameters(registry.load(component)):
            continue  # it has the values of another one
        if component.namespace != namespace:
            namespace = component.namespace
            plugin = registry.plugins[namespace]
            summary = inspect.getdoc(importlib.import_module(plugin.target)) or ""
            yield f"## {namespace}\n\n{summary}\n"
        yield entry(component)


def entry(component: Component) -> str:
    """The formula, the picture, the promises and the paper of a quantizer."""
    cls = registry.load(component)
    documented = inspect.getdoc(cls) or ""
    given = arguments(cls)
    identifier = Identifier(component.name, component.namespace, given)
    paper = PAPER.search(documented)
    lines = [
        f"({component.namespace}-{component.name})=",
        f"### {component.name}",
        "",
        f"<!-- picture of {identifier} -->",
        "",
        "```{eval-rst}",
        ".. py:currentmodule:: qframe.quantizers",
        "",
        SECTION.split(documented)[0].rstrip(),
        "",
        *(f":{name}: {value}" for name, value in promises(construct(cls, given))),
        *([f":paper: {' '.join(paper[1].split())}"] if paper else []),
        f":reference: :py:class:`{cls.__name__}`",
        "```",
        "",
    ]
    return "\n".join(lines)


def arguments(cls: Any) -> dict[str, int]:
    """With which the steps of a quantizer can be seen."""
    parameters = named_parameters(cls)
    given = {name: few for name, few in ARGUMENTS.items() if name in parameters}
    return {
        name: few
        for name, few in given.items()
        if parameters[name].default is inspect.Parameter.empty
        or parameters[name].default > few
    }


def promises(quantizer: Any) -> Iterator[tuple[str, str]]:
    """The traits of a quantizer, by name."""
    bits = quantizer.precision
    yield "precision", "not declared" if bits is None else f"{bits} bit{'s' * (bits > 1)}"
    traits = quantizer.traits
    for name, what in (("range", traits.range), ("gradient within", traits.support)):
        if what is not None:
            scale = " times a scale" if name == "range" and traits.scaled else ""
            yield name, f"{what[0]:.4g} to {what[1]:.4g}{scale}"
    flags = [field.name for field in type(traits).__attrs_attrs__]
    yield "traits", ", ".join(f for f in flags if getattr(traits, f) is True) or "none"


def draw(identifier: str, folder: Path) -> Path:
    """A picture of a quantizer, as a file."""
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', identifier.lower()).strip('-')}.svg"
    # Each build makes the same file.
    keras.utils.set_random_seed(0)
    with matplotlib.rc_context({"svg.hashsalt": identifier}):
        qf.plot_quantizer(identifier).savefig(path, metadata={"Date": None})
    return path


def expand(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the gallery and the pictures into a page that asks for them."""
    text = source[0]
    if "<!-- gallery -->" in text:
        text = text.replace("<!-- gallery -->", "\n".join(entries()))
    folder = Path(app.doctreedir) / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    here = (Path(app.srcdir) / page).parent

    def picture(match: re.Match[str]) -> str:
        path = os.path.relpath(draw(match[1], folder), here)
        return f"![The values and the surrogate gradient of {match[1]}]({path})"

    source[0] = re.sub(r"<!-- picture of (.+?) -->", picture, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the expansion of pictures with Sphinx."""
    app.connect("source-read", expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
