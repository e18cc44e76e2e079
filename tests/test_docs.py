"""Every example runs: the fenced blocks of the documents, and those in docstrings."""

import doctest
import importlib
import pkgutil

import pytest

import documents
import qframe
from qframe.quickstart import data
from qframe.registry import FIRST_PARTY, registry

PACKAGES = [
    qframe,
    *(
        importlib.import_module(plugin.target)
        for plugin in registry.discover().values()
        if plugin.distribution == FIRST_PARTY
    ),
]
MODULES = [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]


def few_digits():
    """In the place of MNIST, since nothing here is downloaded and pages are to be quick."""
    digits = data.load("digits")
    train, test = slice(256), slice(64)
    return (
        (digits.x_train[train], digits.y_train[train]),
        (digits.x_test[test], digits.y_test[test]),
    )


# PyTorch warns, once in a process, of a number that still carries a gradient.
pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad"),
]


@pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")
@pytest.mark.parametrize("document", documents.RUN, ids=lambda path: path.name)
def test_document(document, monkeypatch):
    monkeypatch.setattr("keras.datasets.mnist.load_data", few_digits)
    blocks = [b.text for b in documents.blocks(document) if b.language == "python"]
    assert blocks, f"{document.name} has no example"
    namespace = {"__name__": "example"}
    try:
        for block in blocks:
            exec(compile(block, document.name, "exec"), namespace)
    finally:
        registry.forget_local()


@pytest.mark.parametrize("name", [package.__name__ for package in PACKAGES] + MODULES)
def test_docstrings(name):
    try:
        result = doctest.testmod(importlib.import_module(name))
    finally:
        registry.forget_local()
    assert result.failed == 0


def test_there_are_examples_in_docstrings():
    found = [
        example
        for name in MODULES
        for example in doctest.DocTestFinder().find(importlib.import_module(name))
        if example.examples
    ]
    assert len(found) > 10
