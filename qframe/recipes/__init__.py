"""Recipes: rules in a TOML file, or by the name that a plugin offers."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import String, Table

from qframe.errors import (
    ArgumentError,
    DataError,
    IdentifierError,
    PluginError,
    QFrameError,
    UnknownNameError,
    did_you_mean,
)
from qframe.paths import AnyPath, OutputPath, existing_file
from qframe.recipes.rules import Position, Rule, first, last, parse
from qframe.registry.configurable import (
    Configurable,
    construct,
    interpret,
    registered_with_keras,
)
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

__all__ = ["Recipe", "get"]

_SUFFIX = ".toml"
_STRUCTURE = ("layers", "position", "skip")
# Suggestions for a wrong key.
_SETTINGS = ("input_quantizer", "weight_quantizer", "kernel_quantizer", "kernel_constraint")
_POSITIONS = {position.name: position for position in (first, last)}
# A recipe is read without Keras, and Keras's own constraints are in no registry.
KERAS_CONSTRAINTS = frozenset(
    (
        *("Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"),
        *("constraint", "max_norm", "min_max_norm", "non_neg", "unit_norm"),
    )
)


def _parsed(rules: Any) -> tuple[Rule, ...]:
    return tuple(parse(rules))


def _check_text(recipe: Recipe, field: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str):
        raise ArgumentError(f"{field.name} of a recipe is a text, found {value!r}.")


@attrs.frozen
class Recipe:
    """Rules for `qframe.quantize` that can be written to a TOML file and read back.

    In the file each rule is a table ``[[rule]]``. It selects layers by ``position``
    (``"first"`` or ``"last"``) or by ``layers`` (a class name, or ``"re:<regex on the
    path>"``); with neither it applies to every layer. It has settings, where ``false`` is
    no quantizer, or leaves the layers as they are with ``skip = true``.

    Args:
        rules: as in `qframe.quantize`: settings, or an ordered list of pairs.
        name: its name. Default: none.
        summary: its purpose in one line. Default: none.

    Raises:
        QFrameError: a rule is wrong, or no plugin offers a name in it.

    Example:
        >>> import qframe as qf
        >>> binary = {"weight_quantizer": "ste_sign", "weight_constraint": "weight_clip"}
        >>> recipe = qf.Recipe([(qf.last, None), ("re:^block", binary)])
        >>> print(recipe.to_toml(), end="")
        [[rule]]
        position = "last"
        skip = true
        <BLANKLINE>
        [[rule]]
        layers = "re:^block"
        weight_quantizer = "ste_sign"
        weight_constraint = "weight_clip"
        >>> qf.Recipe.from_toml(recipe.to_toml()) == recipe
        True
    """

    rules: tuple[Rule, ...] = attrs.field(converter=_parsed)
    name: str = attrs.field(default="", kw_only=True, validator=_check_text)
    summary: str = attrs.field(default="", kw_only=True, validator=_check_text)

    def __attrs_post_init__(self) -> None:
        for number, rule in enumerate(self.rules, 1):
            with _about(f"rule {number}" if len(self.rules) > 1 else ""):
                for key, value in (rule.settings or {}).items():
                    _check_setting(key, value)

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read the text of a file.

        Raises:
            QFrameError: it is not TOML, or not a recipe; names the rule.
        """
        try:
            content: dict[str, Any] = tomlkit.parse(text).unwrap()
        except (TOMLKitError, ValueError, RecursionError) as error:
            raise DataError(f"the recipe is not TOML: {error}.") from error
        for key in content:
            if key not in ("name", "summary", "rule"):
                hint = did_you_mean(key, ("name", "summary", "rule"))
                if key.endswith(("_quantizer", "_constraint")):
                    hint = " Settings belong to a rule: write [[rule]] before them."
                raise ArgumentError(
                    f"a recipe has no {key!r}; it has name, summary and [[rule]].{hint}"
                )
        tables = content.pop("rule", None)
        if not isinstance(tables, list) or not tables:
            raise ArgumentError(
                f"a recipe has rules, each below a line [[rule]]; found {tables!r}."
            )
        rules = []
        for number, table in enumerate(tables, 1):
            with _about(f"rule {number}"):
                rules += _read(table)
        return cls(rules, **content)

    def to_toml(self) -> str:
        """Write the rules as TOML, with objects as their identifiers.

        Raises:
            QFrameError: a file cannot hold a rule, such as one with a callable; names the
                rule, and what to write instead.
        """
        document = tomlkit.document()
        for key in ("name", "summary"):
            if getattr(self, key):
                document[key] = getattr(self, key)
        rules = tomlkit.aot()
        for number, rule in enumerate(self.rules, 1):
            with _about(f"rule {number}"):
                rules.append(_table(rule))
        document["rule"] = rules
        return tomlkit.dumps(document)

    @classmethod
    def load(cls, path: AnyPath) -> Recipe:
        """Read a ``.toml`` file.

        Raises:
            QFrameError: as `from_toml`, or the file does not exist.
        """
        file = existing_file(path, _SUFFIX)
        with _about(os.fspath(path)):
            try:
                text = file.read_text("utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"the file cannot be read: {error}.") from error
            return cls.from_toml(text)

    def save(self, path: AnyPath) -> None:
        """Write a ``.toml`` file, as a whole or not at all; an older one is replaced.

        Raises:
            QFrameError: as `to_toml`, or the file cannot be written.
        """
        content = self.to_toml().encode()
        OutputPath.check(path, _SUFFIX, force=True).write(lambda p: p.write_bytes(content))


def get(recipe: Any) -> Recipe:
    """Return a recipe by its name, from its file, or from rules.

    Args:
        recipe: a name that a plugin offers, with arguments or without, such as
            ``"bnn(clip_value=1.25)"``; a path that ends in ``.toml``; a `Recipe`; or
            rules.

    Raises:
        QFrameError: no plugin offers the name, the file is not a recipe, a rule is wrong.

    Example:
        >>> import qframe as qf
        >>> qf.recipes.get("bnn(clip_value=1.25)").rules[0].settings["weight_constraint"]
        'binary:weight_clip(clip_value=1.25)'
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str) and not recipe.endswith(_SUFFIX):
        return _named(recipe)
    if isinstance(recipe, (str, os.PathLike)):
        return Recipe.load(recipe)
    return Recipe(recipe)


# What else a name may be, and how it is used.
_OTHER_KINDS = {
    "quantizer": ("a quantizer", "{{'kernel_quantizer': {0}}}"),
    "constraint": ("a constraint", "{{'kernel_constraint': {0}}}"),
    "rounder": (
        "a method to round weights",
        "qframe.round_weights(model, data, {0}) after qframe.quantize and qframe.calibrate",
    ),
    "exporter": ("a target of files", "qframe.export(model, path, target={0})"),
    "sensitivity_metric": (
        "a metric of sensitivity",
        "qframe.sensitivity(model, data, metric={0})",
    ),
}


def _named(text: str) -> Recipe:
    """Call the function of a plugin with the arguments of an identifier."""
    try:
        identifier = Identifier.parse(text)
    except IdentifierError as error:
        raise IdentifierError(f"{error} The path of a recipe ends in .toml.") from error
    try:
        component = registry.resolve("recipe", identifier)
    except UnknownNameError as error:
        for kind, (what, line) in _OTHER_KINDS.items():
            if any(identifier.name in c.names for c in registry.components(kind)):
                raise UnknownNameError(
                    f"{text!r} is not a recipe but {what}; write for example "
                    f"{line.format(repr(text))}."
                ) from error
        raise
    function = registry.load(component)
    recipe = None
    if inspect.isroutine(function):
        recipe = construct(function, identifier.arguments)
    if not isinstance(recipe, Recipe):
        raise PluginError(
            f"recipe '{component.qualified_name}' (distribution {component.distribution}) "
            f"points at {component.target}, which is not a function that returns "
            "a qframe.Recipe. Upgrade that distribution, or tell its authors."
        )
    return recipe


@contextlib.contextmanager
def _about(part: str) -> Iterator[None]:
    """Begin the messages of errors with a part of the recipe."""
    try:
        yield
    except QFrameError as error:
        if not part:
            raise
        raise type(error)(f"{part}: {error}") from error


def _check_setting(key: str, value: Any) -> None:
    """Raise for a setting whose name no plugin offers; an object needs no plugin."""
    kind = key.rpartition("_")[2]
    if not isinstance(value, str) or (kind == "constraint" and value in KERAS_CONSTRAINTS):
        return
    if registered_with_keras(kind, value) is None:
        registry.resolve(kind, Identifier.parse(value, positional=True))


def _read(table: Any) -> list[Rule]:
    """Return a list of the rule of a table."""
    if not isinstance(table, Mapping):
        raise ArgumentError(f"a rule is a table below [[rule]], found {table!r}.")
    settings = {}
    for key, value in table.items():
        if key.endswith(("_quantizer", "_constraint")):
            settings[key] = _read_setting(key, value)
        elif key not in _STRUCTURE:
            raise ArgumentError(
                f"a rule has no {key!r}; it has {', '.join(_STRUCTURE)} and settings such "
                "as kernel_quantizer." + did_you_mean(key, (*_STRUCTURE, *_SETTINGS))
            )
    if "skip" in table:
        if table["skip"] is not True or settings:
            skip = tomlkit.item(table["skip"]).as_string()
            raise ArgumentError(
                "skip = true leaves layers as they are, and takes no settings; "
                f"found {', '.join(settings) or f'skip = {skip}'}."
            )
    elif not settings:
        raise ArgumentError(
            "it has no settings; write one such as kernel_quantizer, or skip = true to "
            "leave layers as they are."
        )
    return parse([(_read_selector(table), settings or None)])


def _read_selector(table: Mapping[str, Any]) -> Any:
    if "layers" in table and "position" in table:
        raise ArgumentError("it has layers and position; write one rule for each.")
    position = table.get("position", "first")
    if not isinstance(position, str) or position not in _POSITIONS:
        names = " or ".join(map(repr, _POSITIONS))
        raise ArgumentError(f"position is {names}, found {position!r}.")
    layers = table.get("layers", "")
    if not isinstance(layers, str):
        raise ArgumentError(
            f"layers is a class name or 're:<regex on the path>', found {layers!r}. For "
            "several, write one rule for each, or a regex."
        )
    if "layers" in table:
        return layers
    return _POSITIONS[position] if "position" in table else None


def _read_setting(key: str, value: Any) -> str | None:
    if value is False:
        return None
    if not isinstance(value, str) or value.casefold() in ("", "none"):
        raise ArgumentError(
            f"{key} is an identifier such as 'ste_sign(clip_value=1.0)', or false for "
            f"none; found {value!r}."
        )
    return value


def _table(rule: Rule) -> Table:
    table = tomlkit.table()
    selector = rule.selector
    if isinstance(selector, Position) and selector in _POSITIONS.values():
        table["position"] = selector.name
    elif isinstance(selector, (type, str)):
        name = selector if isinstance(selector, str) else selector.__name__
        table["layers"] = _string(name)
    elif selector is not None:
        raise ArgumentError(
            f"a file cannot hold the selector {selector!r}; select by a class name, "
            "'re:<regex on the path>', qframe.first or qframe.last."
        )
    if rule.settings is None:
        table["skip"] = True
    for key, value in (rule.settings or {}).items():
        table[key] = _string(_identifier(key, value)) if value is not None else False
    return table


def _string(text: str) -> String:
    """Return a TOML string, with single backslashes where possible."""
    literal = "\\" in text and text.isprintable() and "'" not in text
    return tomlkit.string(text, literal=literal)


def _identifier(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    component = interpret(key.rpartition("_")[2], value)
    if not isinstance(component, Configurable):
        raise ArgumentError(
            f"a file cannot hold {key}={value!r}; write the name of a registered one, "
            "such as 'ste_sign' or 'weight_clip'. `qframe list` shows all, and "
            "qframe.register adds a class of your own."
        )
    return str(component.identifier)
