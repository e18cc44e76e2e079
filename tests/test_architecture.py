"""The arrows between the rooms point down only."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import qframe
from qframe.registry import FIRST_PARTY, registry

pytestmark = pytest.mark.pure

CORE = Path(qframe.__file__).parent
MANIFESTS = [
    plugin.target
    for plugin in registry.discover().values()
    if plugin.distribution == FIRST_PARTY
]
PLUGINS = [Path(importlib.import_module(name).__file__).parent for name in MANIFESTS]

# Who may import whom: a room, and the rooms that stand below it.
LIGHT = {
    "errors",
    "foreign",
    "arguments",
    "identifier",
    "components",
    "hookspecs",
    "registry",
    "requirements",
    "configurable",
    "context",
}
BELOW = {
    "errors": set(),
    "arguments": {"errors"},
    "identifier": {"errors"},
    "foreign": set(),
    "components": {"errors", "foreign"},
    "hookspecs": {"components"},
    "registry": {"errors", "foreign", "identifier", "components", "hookspecs"},
    "requirements": {"errors", "identifier", "registry"},
    "configurable": {"errors", "components", "identifier", "registry", "requirements"},
    "context": set(),
    "keras_internals": set(),
    "overrides": set(),
    "differentiation": set(),
    "math": set(),
    "activations": set(),
    "metrics": {"errors", "math", "quantizers"},
    "constraints": {*LIGHT},
    "quantizers": {*LIGHT, "keras_internals"},
    "initializers": {"errors"},
    "layers": {
        *LIGHT,
        *("keras_internals", "activations", "constraints", "initializers", "quantizers"),
    },
    "optimizers": {*LIGHT, "keras_internals", "layers"},
    "patterns": {"errors"},
    "rules": {"errors", "patterns"},
    "files": {"errors"},
    "recipes": {*LIGHT, "files", "rules"},
    "exporters": {*LIGHT, "files"},
    # What it imports by name, when a word is asked for: exporters.
    "runtimes": {"errors"},
    "passes": {
        *LIGHT,
        *("keras_internals", "constraints", "quantizers", "layers", "models"),
        *("recipes", "rules"),
    },
    "models": {
        *LIGHT,
        *("keras_internals", "constraints", "quantizers", "layers", "optimizers"),
    },
    "callbacks": {
        *LIGHT,
        *("files", "keras_internals", "layers", "metrics", "optimizers", "passes"),
        "quantizers",
    },
    "plots": {*LIGHT, "callbacks", "differentiation", "layers", "quantizers"},
    "distillation": {*LIGHT, "keras_internals"},
    "larq_weights": {*LIGHT, "files", "models"},
    "zoo": {
        *LIGHT,
        *("files", "initializers", "keras_internals", "larq_weights", "layers"),
    },
    "utils": {*LIGHT, "models"},
    "reports": {
        *LIGHT,
        *("files", "keras_internals", "layers", "models", "passes", "quantizers"),
    },
    "quickstart": {*LIGHT, "files", "layers", "models"},
    "cli": {
        *LIGHT,
        *("constraints", "exporters", "files", "layers", "models", "passes"),
        *("quantizers", "quickstart", "recipes", "reports"),
    },
    "testing": {
        *LIGHT,
        *("constraints", "layers", "models", "passes", "quantizers", "recipes", "rules"),
        "differentiation",
    },
    "__main__": {"cli"},
    # Lazily, or for type checkers only.
    "__init__": {
        *LIGHT,
        "runtimes",
        *("constraints", "layers", "models", "optimizers", "passes", "quantizers"),
        *("recipes", "reports", "rules"),
        *("activations", "callbacks", "distillation", "exporters", "larq_weights", "math"),
        *("metrics", "plots", "utils", "zoo"),
    },
}


def imports(path):
    """The modules that a file imports anywhere, functions included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(CORE).parts[0].removesuffix(".py")


SOURCES = sorted(CORE.rglob("*.py"))


def test_every_room_has_a_place():
    assert {room(path) for path in SOURCES} == set(BELOW)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_core_imports_point_down(path):
    for name in imports(path):
        top, *rest = name.split(".")
        assert not top.startswith("qframe_"), f"{path} imports the plugin {name}"
        if top == "qframe" and rest and rest[0] in BELOW:
            assert rest[0] in {room(path), *BELOW[room(path)]}, f"{path} imports {name}"


def test_plugins_import_the_core_and_themselves_only():
    for folder in PLUGINS:
        for path in folder.rglob("*.py"):
            for name in imports(path):
                top = name.split(".")[0]
                assert not top.startswith("qframe_") or top == folder.name


def test_numba_is_imported_where_kernels_are_compiled_only():
    """All else runs without it, and the runtime starts without it."""
    for folder in (CORE, *PLUGINS):
        for path in folder.rglob("*.py"):
            tops = {name.split(".")[0] for name in imports(path)}
            inside = path.parent.name == "compiled"
            assert inside or not tops & {"numba", "llvmlite"}, path
            users = [n for n in imports(path) if n.startswith("qframe_packed.compiled")]
            assert inside or not users or path.name == "runtime.py", path


def test_private_keras_is_in_one_place():
    allowed = "keras_internals"
    for path in SOURCES:
        private = [n for n in imports(path) if n.startswith("keras.src")]
        assert not private or room(path) == allowed, f"{path} imports {private}"


def test_no_room_is_large():
    sizes = [len(path.read_text("utf-8").splitlines()) for path in SOURCES]
    assert max(sizes) <= 400
    assert sorted(sizes)[len(sizes) // 2] < 150


@pytest.mark.parametrize(
    "module",
    [
        *("qframe", "qframe.cli", "qframe.testing", "qframe.testing.pytest_plugin"),
        *("qframe_binary.recipes", "qframe_packed.runtime", *MANIFESTS),
    ],
)
def test_light_modules_import_no_backend(module):
    backends = {"keras", "tensorflow", "jax", "torch", "numba"}
    code = f"import sys, {module}; print({backends} & {{*sys.modules}})"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"
