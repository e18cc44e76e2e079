"""Docstrings of methods, which ruff cannot ask for: it does not see what they override."""

import importlib
import inspect
import pkgutil

import pytest

from qframe.registry.discovery import FIRST_PARTY, registry

# Docstrings are the same everywhere.
pytestmark = pytest.mark.long

PLUGINS = [p for p in registry.discover().values() if p.distribution == FIRST_PARTY]
PACKAGES = ["qframe", *(plugin.target for plugin in PLUGINS)]


def classes():
    """Every public class of every module."""
    for package in map(importlib.import_module, PACKAGES):
        result = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names = [m.name for m in result if not m.name.endswith("__main__")]
        for module in map(importlib.import_module, [package.__name__, *names]):
            for name, value in vars(module).items():
                own = inspect.isclass(value) and value.__module__ == module.__name__
                if own and not name.startswith("_"):
                    yield value


def function(member):
    """The function of a method or property; None for another member."""
    member = getattr(member, "fget", getattr(member, "func", member))
    member = inspect.unwrap(getattr(member, "__func__", member))
    return member if inspect.isfunction(member) else None


def is_described(cls, name):
    """True where a class says what a method does, or a library outside of qframe has it."""
    if cls.__module__.partition(".")[0] not in PACKAGES:
        return True
    return bool(function(vars(cls)[name]).__doc__)


def test_every_public_method_is_described_in_its_class_or_in_one_above():
    counted, missing = 0, set()
    for cls in classes():
        for name, member in vars(cls).items():
            made_here = getattr(function(member), "__module__", "") == cls.__module__
            if name.startswith("_") or not made_here:
                continue
            counted += 1
            if not any(is_described(c, name) for c in cls.__mro__ if name in vars(c)):
                missing.add(f"{cls.__module__}.{cls.__qualname__}.{name}")
    assert counted > 500
    assert sorted(missing) == []
