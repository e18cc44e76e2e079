"""What a manifest yields: records that name a component and say where it is, unloaded."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Any

import attrs

from qframe.errors import PluginError

_NAME = re.compile(r"[A-Za-z_]\w*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _matches(pattern: re.Pattern[str], form: str) -> Any:
    def validate(record: Component, field: attrs.Attribute[str], value: str) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise PluginError(
                f"{field.name} of a {record.kind} must be {form}, found {value!r}."
            )

    return validate


@attrs.frozen
class Component:
    """One thing that a plugin offers: a kind, a name, and where its target is found."""

    kind: str
    name: str = attrs.field(validator=_matches(_NAME, "a plain name"))
    target: str = attrs.field(validator=_matches(_TARGET, "'module:attribute'"))
    summary: str = ""
    aliases: tuple[str, ...] = ()
    namespace: str = ""
    distribution: str = ""

    @property
    def qualified_name(self) -> str:
        return f"{self.namespace}:{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)

    def load(self) -> Any:
        """Import the target. Raises `PluginError` that names the distribution."""
        module, _, attribute = self.target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise PluginError(
                f"{self.kind} '{self.qualified_name}' (distribution "
                f"{self.distribution or 'unknown'}) points at {self.target}, which "
                f"cannot be loaded: {type(error).__name__}: {error}. Reinstall or "
                f"upgrade that distribution, or set QFRAME_DISABLE_PLUGINS="
                f"{self.namespace}."
            ) from error
        return found


def quantizer(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A quantizer: `target` is ``"module:Class"`` of a `qframe.quantizers.Quantizer`."""
    return Component("quantizer", name, target, summary, tuple(aliases))


def constraint(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A constraint: `target` is ``"module:Class"`` of a `qframe.constraints.Constraint`."""
    return Component("constraint", name, target, summary, tuple(aliases))


def recipe(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A recipe: `target` is ``"module:function"`` of a function, with parameters that have
    defaults or without any, that returns a `qframe.Recipe`. Its module imports no backend.
    """
    return Component("recipe", name, target, summary, tuple(aliases))
