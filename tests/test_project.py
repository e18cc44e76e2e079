"""Files about the project, which have to agree with each other."""

import ast
import re
from pathlib import Path

import pytest
import tomlkit

import qframe

ROOT = Path(__file__).parents[1]
# Files are the same everywhere.
pytestmark = pytest.mark.long


def text(name):
    return (ROOT / name).read_text("utf-8")


@pytest.fixture
def project():
    return tomlkit.parse(text("pyproject.toml")).unwrap()


@pytest.fixture
def workflow():
    return text(".github/workflows/ci.yml")


def test_python_versions_are_the_same_in_every_list(project):
    versions = sorted(text(".python-version").split())
    named = [c.rpartition(" :: ")[2] for c in project["project"]["classifiers"]]
    assert sorted(v for v in named if re.fullmatch(r"3\.\d+", v)) == versions
    assert set(re.findall(r"\bpy3(\d+)\b", text("tox.ini"))) == {
        version.partition(".")[2] for version in versions
    }
    floor = min(versions, key=lambda v: int(v.partition(".")[2]))
    assert project["project"]["requires-python"] == f">={floor}"


def test_workflow_takes_environments_and_pythons_from_their_files(workflow):
    assert "tox list -m ci --no-desc -q" in workflow
    assert "environment: ${{ fromJSON(needs.list.outputs.environments) }}" in workflow
    assert workflow.count("python-version-file: .python-version") == 2
    # No copy of either list.
    assert "py3" not in workflow
    assert not re.search(r"\b3\.1\d\b", workflow)


def test_workflow_runs_fixed_actions_that_may_only_read(workflow):
    uses = re.findall(r"uses: (.+)", workflow)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    assert "\npermissions:\n  contents: read\n\n" in workflow
    assert workflow.count("permissions:") == 1
    assert workflow.count("persist-credentials: false") == workflow.count("checkout@")


def test_hooks_run_the_linter_of_the_lint_environment(project):
    (pinned,) = project["dependency-groups"]["lint"]
    actual = set(re.findall(r"ruff==[\d.]+", text(".pre-commit-config.yaml")))
    assert actual == {pinned}


def test_citation_is_of_this_version(project):
    fields = dict(re.findall(r"(?m)^([\w-]+): (.+)$", text("CITATION.cff")))
    assert fields["version"] == project["project"]["version"] == qframe.__version__
    assert fields["license"] == project["project"]["license"]
    assert fields["abstract"] == project["project"]["description"]


def test_coverage_is_of_every_package(project):
    plugins = sorted(p.parent.name for p in (ROOT / "plugins").glob("qframe_*/__init__.py"))
    assert len(plugins) >= 7
    assert project["tool"]["coverage"]["run"]["source_pkgs"] == ["qframe", *plugins]


def _silent(source):
    """The lines that skip tests and do not say why."""
    nodes = [*ast.walk(ast.parse(source))]
    called = {id(node.func): node for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        name = getattr(node, "attr", None)
        if name not in ("skip", "skipif", "xfail", "importorskip"):
            continue
        call = called.get(id(node), ast.Call(node, [], []))
        first = call.args[:1] if name in ("skip", "xfail") else []
        reasons = [k.value for k in call.keywords if k.arg == "reason"] or first
        if not reasons or getattr(reasons[0], "value", True) == "":
            yield node.lineno


def test_every_skip_gives_a_reason():
    """Pytest prints it, so that nobody has to read the test."""
    silent = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in _silent(path.read_text("utf-8"))
    ]
    assert silent == []
    wrong = "mark.skip", "skip()", "skip('')", "mark.skipif(a)", "importorskip('a')"
    assert all([*_silent(f"pytest.{text}")] == [1] for text in wrong)
