"""Every example runs: the cells of the documents, and those in docstrings."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import documents
import qframe
from qframe.cli.quickstart import data
from qframe.registry.discovery import FIRST_PARTY, registry

PACKAGES = [
    qframe,
    *(
        importlib.import_module(plugin.target)
        for plugin in registry.discover().values()
        if plugin.distribution == FIRST_PARTY
    ),
]
MODULES = [
    ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )
    for folder in (Path(package.__file__).parent for package in PACKAGES)
    for path in sorted(folder.rglob("*.py"))
    if re.search(r"^ *>>> ", path.read_text("utf-8"), re.MULTILINE)
]


def few_digits():
    """In the place of MNIST, since nothing here is downloaded and pages are to be quick."""
    digits = data.load("digits")
    train, test = slice(256), slice(64)
    return (
        (digits.x_train[train], digits.y_train[train]),
        (digits.x_test[test], digits.y_test[test]),
    )


# Those that each backend runs: where models train, and where backends are named. Others say
# what the tests of each backend prove.
ON_EACH_BACKEND = {
    "README.md",
    "distribution.md",
    "quantize.md",
    "training.md",
    "tutorial.md",
}

# Those that need what few environments have: the runtime of LiteRT.
ON_THE_NEWEST = {"litert.md"}


def marks_of(document):
    """The environments of a document.

    On the newest versions the pages of the site run while it is built, with all of MNIST.
    """
    marks = [pytest.mark.elsewhere] if document.parent.name == "docs" else []
    if document.name in ON_THE_NEWEST:
        return [*marks, pytest.mark.long]
    return marks if document.name in ON_EACH_BACKEND else [*marks, pytest.mark.tensorflow]


# PyTorch warns, once in a process, of a number that still carries a gradient.
pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad"),
]


@pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")
@pytest.mark.parametrize(
    "document",
    [pytest.param(d, marks=marks_of(d)) for d in documents.RUN],
    ids=lambda path: path.name,
)
def test_document(document, monkeypatch):
    monkeypatch.setattr("keras.datasets.mnist.load_data", few_digits)
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = documents.cells(document.read_text("utf-8"))
    code = [cell.text for cell in cells if cell.kind != "text"]
    assert code, f"{document.name} has no example"
    namespace = {"__name__": "example"}
    try:
        for text in code:
            exec(compile(text, document.name, "exec"), namespace)
    finally:
        registry.forget_local()


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    try:
        result = doctest.testmod(importlib.import_module(name))
    finally:
        registry.forget_local()
    assert result.failed == 0
    assert result.attempted
