"""A tox environment holds what its name promises.

A resolver is free to surprise: to take a newer Keras, to leave out a floor, or to let
the tests import the source folder instead of the installed package. Outside of tox
nothing is promised, and nothing tested.
"""

import os
import re
import sys
import sysconfig
from importlib import metadata, util
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import qframe

ENVIRONMENT = os.environ.get("TOX_ENV_NAME", "")
DISTRIBUTIONS = {"tf": "tensorflow", "keras": "keras"}
BACKENDS = ("jax", "tensorflow", "torch")

pytestmark = pytest.mark.skipif(not ENVIRONMENT, reason="not run by tox")


def requirements(*extras: str) -> list[Requirement]:
    """The requirements of the installed package, with these extras."""
    declared = map(Requirement, metadata.requires("keras-qframe") or [])
    return [
        r
        for r in declared
        if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)
    ]


def floor(requirement: Requirement) -> Version:
    """The version after `>=`."""
    (specifier,) = (s for s in requirement.specifier if s.operator == ">=")
    return Version(specifier.version)


def starts_with(version: str, prefix: tuple[int, ...]) -> bool:
    return Version(version).release[: len(prefix)] == prefix


def test_the_package_under_test_is_the_installed_one():
    assert Path(qframe.__file__).is_relative_to(sys.prefix)
    assert qframe.__version__ == metadata.version("keras-qframe")


def test_versions_are_those_in_the_name():
    for name, major, minor in re.findall(r"\b([a-z]+)(\d)(\d+)\b", ENVIRONMENT):
        promised = int(major), int(minor)
        if name == "py":
            assert sys.version_info[:2] == promised
        else:
            installed = metadata.version(DISTRIBUTIONS[name])
            assert starts_with(installed, promised), f"{name} is {installed}"


def test_there_is_one_backend():
    installed = [name for name in BACKENDS if util.find_spec(name)]
    if ENVIRONMENT == "packed":
        assert installed == []
        return
    assert installed == [os.environ["KERAS_BACKEND"]]
    for name in BACKENDS:
        if name in ENVIRONMENT.split("-"):
            assert installed == [name]


def test_the_template_is_a_distribution_of_its_own():
    packed = {file.parts[0] for file in metadata.files("keras-qframe") or []}
    assert {"qframe", "qframe_binary"} <= packed
    assert not packed & {"docs", "plugins", "qframe_template", "src", "template", "tests"}
    template = util.find_spec("qframe_template")
    if ENVIRONMENT == "template":
        site = Path(os.environ["QFRAME_TEMPLATE"])
        assert str(site) != sysconfig.get_path("purelib")
        assert template is not None
        assert Path(template.origin or "").is_relative_to(site)
        (actual,) = metadata.distributions(name="qframe-plugin-template")
        assert [entry.group for entry in actual.entry_points] == ["qframe"]
        assert {p.parts[0] for p in actual.files or []} == {
            "qframe_template",
            f"qframe_plugin_template-{actual.version}.dist-info",
        }
    else:
        assert template is None


@pytest.mark.skipif(ENVIRONMENT != "packed", reason="not where packed files are run")
def test_there_is_no_keras():
    """The environment has what `qframe.packed` and these tests need, and no more."""
    for name in ("keras", "h5py", "click", "tomlkit"):
        assert util.find_spec(name) is None
    assert util.find_spec("numba")
    assert util.find_spec("safetensors")


@pytest.mark.skipif("floors" not in ENVIRONMENT, reason="not the floors")
def test_every_dependency_is_at_its_floor():
    extras = "", "testing", "packed", "plot", "tensorflow"
    promised = {r.name: floor(r) for r in requirements(*extras)}
    installed = {name: metadata.version(name) for name in promised}
    above = {
        name: f"{installed[name]}, not {least}"
        for name, least in promised.items()
        if not starts_with(installed[name], least.release)
    }
    assert {"keras", "tensorflow", "pytest", "numba", "matplotlib"} <= set(promised)
    assert not above


@pytest.mark.skipif(ENVIRONMENT != "tests", reason="not where LiteRT files are run")
def test_there_is_the_runtime_of_litert():
    """Without it the tests of `plugins/qframe_litert` would skip themselves."""
    for name in ("ai_edge_litert", "flatbuffers", "tflite"):
        assert util.find_spec(name)
