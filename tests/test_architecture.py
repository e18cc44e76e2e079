"""The packages of the core import each other in one direction only.

`pytest -s tests/test_architecture.py -k counts` prints the packages and their imports.
"""

import ast
import importlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qframe
from qframe.registry.discovery import FIRST_PARTY, registry

pytestmark = pytest.mark.pure

CORE = Path(qframe.__file__).parent
ROOT = Path(__file__).parents[1]
MANIFESTS = [
    plugin.target
    for plugin in registry.discover().values()
    if plugin.distribution == FIRST_PARTY
]
PLUGINS = [Path(importlib.import_module(name).__file__).parent for name in MANIFESTS]

# A package (or a module at the root), and those below it that it imports: exactly these.
BELOW = {
    "errors": set(),
    "validation": {"errors"},
    "paths": {"errors"},
    "registry": {"errors"},
    "tables": set(),
    "context": set(),
    "keras_internals": {"context"},
    "math": set(),
    "activations": set(),
    "constraints": {"registry"},
    "quantizers": {"errors", "registry", "keras_internals", "context"},
    "metrics": {"errors"},
    "layers": {
        *("errors", "registry", "keras_internals", "context"),
        *("activations", "constraints", "quantizers"),
    },
    "optimizers": {"errors", "keras_internals", "layers"},
    "recipes": {"errors", "paths", "registry"},
    "exporters": {"errors", "paths", "registry"},
    "models": {
        *("errors", "tables", "context", "keras_internals", "quantizers", "layers"),
        "optimizers",
    },
    "observation": {"errors", "context", "keras_internals", "quantizers", "layers"},
    "deployment": {"errors", "keras_internals", "activations", "quantizers", "layers"},
    "passes": {
        *("errors", "registry", "validation", "tables", "keras_internals", "quantizers"),
        *("context", "layers", "models", "observation", "recipes"),
    },
    "callbacks": {
        *("errors", "validation", "paths", "keras_internals", "quantizers", "metrics"),
        *("context", "layers", "observation", "optimizers", "passes"),
    },
    "distillation": {"errors", "validation", "keras_internals"},
    "zoo": {"errors", "validation", "paths", "tables", "keras_internals", "layers"},
    "utils": {"registry", "validation", "tables"},
    "reports": {
        *("errors", "registry", "validation", "paths", "tables", "keras_internals"),
        *("quantizers", "layers", "models", "observation", "deployment", "exporters"),
        "passes",
    },
    "testing": {
        *("errors", "registry", "constraints", "quantizers", "layers", "models"),
        *("passes", "recipes", "__init__"),
    },
    "cli": {
        *("errors", "registry", "paths", "layers", "models", "passes", "recipes"),
        *("exporters", "reports", "__init__"),
    },
    "__main__": {"cli"},
    # By name, when a name is first used, or for type checkers.
    "__init__": {
        *("errors", "registry", "context", "math", "activations", "constraints"),
        *("quantizers", "metrics", "layers", "optimizers", "recipes", "exporters"),
        *("models", "passes", "callbacks", "distillation", "zoo", "utils", "reports"),
    },
}
# The limits of the plan of the packages.
MOST_PACKAGES, MOST_IMPORTS = 30, 120


def modules():
    """Every module of the core, with its file."""
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


SOURCES = dict(modules())


def package(name):
    """The package, or the module at the root, that a module belongs to."""
    return [*name.split("."), "__init__"][1]


def tree(path):
    return ast.parse(path.read_text("utf-8"))


def imports(path):
    """The names that a file imports anywhere, functions included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(path):
    """The names ``qframe.x`` in a file that imports the whole, as users do."""
    roots = {
        alias.asname or alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "qframe"
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in roots:
            yield f"qframe.{node.attr}"


def used(name, path):
    """The modules of the core that a module needs, however and whenever it imports them."""
    result = {*imports(path), *attributes(path)}
    if name == "qframe":
        result |= {*qframe._HOMES.values(), *(f"qframe.{word}" for word in qframe.__all__)}
    for each in result:
        module = qframe._HOMES.get(each.removeprefix("qframe."), each)
        while module not in SOURCES and "." in module:  # a name in a module
            module = module.rpartition(".")[0]
        if module in SOURCES and module != name:
            yield module


GRAPH = {name: {*used(name, path)} for name, path in SOURCES.items()}
IMPORTS = {
    (package(name), package(other))
    for name, others in GRAPH.items()
    for other in others
    if package(name) != package(other)
}


def cycles(graph):
    """The groups of nodes that reach each other, by removing all that cannot."""
    left = {node: {*others} for node, others in graph.items()}
    while True:
        ends = {node for node, others in left.items() if not others & {*left}}
        starts = {*left} - set(itertools.chain.from_iterable(left.values()))
        if not ends | starts:
            return sorted(left)
        left = {node: others for node, others in left.items() if node not in ends | starts}


def test_packages_import_what_is_below_them():
    actual = {name: set() for name in map(package, SOURCES)}
    for name, other in IMPORTS:
        actual[name].add(other)
    assert actual == BELOW


def test_no_import_closes_a_cycle():
    assert cycles(BELOW) == []
    assert cycles(GRAPH) == []
    assert cycles({"a": {"b", "c"}, "b": {"a"}, "c": set(), "d": {"a"}}) == ["a", "b"]


def test_counts_of_packages_and_imports():
    # The root has a name of nearly every package, and nothing else.
    between = [(name, other) for name, other in IMPORTS if name != "__init__"]
    print(
        f"\n{len(BELOW)} packages, {len(between)} imports, {len(cycles(GRAPH))} in cycles"
    )
    for name, below in BELOW.items():
        print(f"{name}: {', '.join(sorted(below)) or '-'}")
    assert len(BELOW) < MOST_PACKAGES
    assert len(between) < MOST_IMPORTS


@pytest.fixture
def page():
    return (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_the_picture_has_each_package_above_what_it_imports(page):
    lines = page.partition("```text\n")[2].partition("\n```")[0].splitlines()
    rows = [line.partition("|")[0].split() for line in lines]
    drawn = [name for row in rows for name in row]
    assert sorted(drawn) == sorted(BELOW)
    height = {name: -index for index, row in enumerate(rows) for name in row}
    upward = [(name, other) for name, other in IMPORTS if height[name] <= height[other]]
    assert not upward


def test_the_page_names_files_that_are_there(page):
    names = re.findall(r"`((?:qframe|plugins|tests)/[\w/.]*)`", page)
    assert len(names) > 20
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_core_imports_no_plugin():
    for path in SOURCES.values():
        assert not [name for name in imports(path) if name.startswith("qframe_")], path


def test_the_deployment_graph_knows_no_keras_and_no_lowering():
    for path in (CORE / "deployment" / "graph").rglob("*.py"):
        for name in imports(path):
            top, *rest = name.split(".")
            assert top != "keras", path
            known = rest[:1] == ["errors"] or rest[:2] == ["deployment", "graph"]
            assert top != "qframe" or known, f"{path} imports {name}"


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
    for name, path in SOURCES.items():
        private = [n for n in imports(path) if n.startswith("keras.src")]
        assert not private or package(name) == allowed, f"{path} imports {private}"


def test_no_module_is_large():
    sizes = [len(path.read_text("utf-8").splitlines()) for path in SOURCES.values()]
    assert max(sizes) <= 400
    assert sorted(sizes)[len(sizes) // 2] < 130


@pytest.mark.parametrize(
    "module",
    [
        *("qframe", "qframe.cli", "qframe.testing", "qframe.testing.pytest_plugin"),
        *("qframe.deployment.graph.checks", "qframe.deployment.graph.fusing"),
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
