"""The wheel and the sdist hold what they are to hold, and work by themselves."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from readme_renderer import markdown

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = SETTINGS["project"]
PACKED = SETTINGS["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
PACKAGES = sorted(p.parent for p in (ROOT / "plugins").glob("qframe_*/__init__.py"))
# Beside modules, all that is read at run time.
DATA = {
    "qframe/layers/__init__.pyi",
    "qframe/cli/quickstart/DIGITS.md",
    "qframe/cli/quickstart/digits.npz",
    "qframe/reports/page.css",
    "qframe/reports/page.js",
    "qframe/py.typed",
    *(f"{package.name}/py.typed" for package in PACKAGES),
}


def modules():
    """The path in the wheel of each module in the checkout."""
    for package in (ROOT / "qframe", *PACKAGES):
        for path in package.rglob("*.py"):
            yield path.relative_to(package.parent).as_posix()


def listed(*arguments):
    """The files in the checkout that git lists."""
    command = ["git", "-C", ROOT, "ls-files", "-z", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(filter(None, done.stdout.split("\0")))


def files(folder):
    """The paths of all files in a folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_wheel_holds_the_packages_and_no_more(wheel):
    expected = {*modules(), *DATA}
    assert len(PACKAGES) >= 7
    assert {f for f in wheel.files if not f.startswith(wheel.info)} == expected


def test_the_metadata(wheel):
    actual = wheel.metadata
    assert actual["Name"] == "keras-qframe"
    assert actual["Version"] == PROJECT["version"]
    assert actual["License-Expression"] == "Apache-2.0"
    (name,) = actual.get_all("License-File")
    text = wheel.read(f"{wheel.info}/licenses/{name}").decode()
    assert text == (ROOT / "LICENSE").read_text("utf-8")
    extras = PROJECT["optional-dependencies"]
    assert set(actual.get_all("Provides-Extra")) == set(extras)
    asked = [Requirement(r) for r in actual.get_all("Requires-Dist")]
    for extra, requirements in {"": PROJECT["dependencies"], **extras}.items():
        assert {Requirement(r).name for r in requirements} == {
            r.name
            for r in asked
            if (r.marker is None) == (not extra)
            and (r.marker is None or r.marker.evaluate({"extra": extra}))
        }
    # A range that is open below is one that nobody has tested.
    assert [str(r) for r in asked if ">=" not in str(r.specifier)] == []


def test_the_readme_renders(wheel):
    """As on a package index, whose renderer drops what it does not trust."""
    actual = wheel.metadata
    assert actual["Description-Content-Type"] == "text/markdown"
    page = markdown.render(actual.get_payload(decode=True).decode())
    assert page
    for tag in ("<h1", "<h2", "<pre", "<table", "<img"):
        assert tag in page, tag


def test_the_source_distribution_holds_what_is_kept_under_version_control(source):
    """So that it can be built, tested and read: all but how this repository is run."""
    if not (ROOT / ".git").exists():
        pytest.skip(reason="no clone, which would say what is under version control")
    tracked = {name for name in listed("--cached") if not name.startswith(".ci/")}
    # A new file counts where all files are packed. Elsewhere it may be a note of whoever
    # works here; a file that is missing from the archive is found once it is committed.
    new = {
        name
        for name in listed("--others", "--exclude-per-directory=.gitignore")
        if name.partition("/")[0] in PACKED
    }
    assert files(source) - {"PKG-INFO"} == tracked - listed("--deleted") | new


def test_the_checkout_builds_the_same_wheel(wheel, build):
    assert build(ROOT).record == wheel.record


def test_the_commands_work_outside_of_the_checkout(program):
    assert program("qframe", "--version") == f"qframe, version {PROJECT['version']}\n"
    assert "binary:ste_sign" in program("qframe", "list")
    actual = json.loads(program("qframe", "doctor", "--json"))
    assert actual["self_test"] == {"passed": True, "message": None}
    assert actual["backend"] == "tensorflow"
    assert {plugin["namespace"] for plugin in actual["plugins"]} == set(
        PROJECT["entry-points"]["qframe"]
    )
    assert [plugin for plugin in actual["plugins"] if plugin["error"]] == []


ENTRIES = """
import importlib.util, json
from importlib import metadata
from pathlib import Path
import qframe

found = metadata.distribution("keras-qframe")
assert found.version == qframe.__version__
for entry in found.entry_points:
    # The plugin of pytest is for where pytest is.
    if entry.group == "pytest11":
        assert importlib.util.find_spec(entry.module), entry
    else:
        entry.load()
print(json.dumps([[e.group, e.name, e.value] for e in found.entry_points]))
"""


def test_every_entry_point_resolves(program):
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    assert {tuple(entry) for entry in json.loads(program("python", "-c", ENTRIES))} == {
        (group, name, value)
        for group, entries in groups.items()
        for name, value in entries.items()
    }


def test_nothing_is_installed_here():
    """These tests see the archives, and not what they were built from."""
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution("keras-qframe")
