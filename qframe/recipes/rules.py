"""Rules: settings for the layers that a selector matches; the first match wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from qframe.errors import ArgumentError, shown
from qframe.recipes import patterns


@attrs.frozen
class Position:
    """A selector of one quantizable layer by its place in call order."""

    name: str
    index: int

    def __repr__(self) -> str:
        return f"qframe.{self.name}"


first = Position("first", 0)
last = Position("last", -1)


@attrs.frozen
class Rule:
    """A selector of layers and their settings.

    Args:
        selector: a layer class, a class name, ``"re:<regex on the path>"``, `first`,
            `last`, a callable layer -> bool, or None for every layer.
        settings: by name, ``<slot>_quantizer``, ``edge_quantizer`` or
            ``<prefix>_constraint``; None leaves a layer as it is.
    """

    selector: Any
    settings: Mapping[str, Any] | None

    def matches(self, path: str, layer: Any, cls: type, index: int, count: int) -> bool:
        """Return whether the rule applies to the index-th of `count` quantizable layers."""
        selector = self.selector
        if selector is None:
            return True
        if isinstance(selector, Position):
            return index == selector.index % count
        if isinstance(selector, type):
            return issubclass(cls, selector)
        if isinstance(selector, str):
            if selector.startswith("re:"):
                return patterns.parse(selector[3:]).matches(path)
            return any(base.__name__ == selector for base in cls.__mro__)
        return bool(selector(layer))


def parse(rules: Any) -> list[Rule]:
    """Parse rules in a dict, or in an ordered list of pairs.

    Raises:
        ArgumentError: the rules are something else, a selector is of an unknown kind or a
            broken regex, no layer could have a setting.
    """
    if isinstance(rules, Mapping):
        return [_rule(None, rules)]
    if isinstance(rules, (str, bytes)) or not isinstance(rules, Iterable):
        raise _wrong(rules)
    parsed = []
    for item in rules:
        if isinstance(item, Rule):
            parsed.append(_rule(item.selector, item.settings))
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            parsed.append(_rule(*item))
        else:
            raise _wrong(item)
    if not parsed:
        raise _wrong(rules)
    return parsed


def _wrong(rules: Any) -> ArgumentError:
    return ArgumentError(
        "rules are a dict such as {'kernel_quantizer': 'ste_sign'}, or a list of pairs "
        f"(selector, dict or None); found {rules!r}."
    )


def _rule(selector: Any, settings: Any) -> Rule:
    if settings is not None and not isinstance(settings, Mapping):
        raise _wrong((selector, settings))
    if not (
        selector is None
        or isinstance(selector, (Position, type, str))
        or callable(selector)
    ):
        raise ArgumentError(
            "a selector is a layer class, a class name, 're:<regex on the path>', "
            f"qframe.first, qframe.last or a callable, found {selector!r}."
        )
    if isinstance(selector, str):
        _check_text(selector)
    return Rule(selector, None if settings is None else _checked(settings))


def _check_text(selector: str) -> None:
    if selector.startswith("re:"):
        try:
            patterns.parse(selector[3:])
        except ArgumentError as error:
            raise ArgumentError(f"selector {shown(selector)} {error}") from None
    elif not selector.isidentifier():
        raise ArgumentError(
            f"selector {shown(selector)} is not a class name; a regex on the path begins "
            f"with re:, as in {shown('re:' + selector)}."
        )


def _checked(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Check settings and copy them."""
    for key in settings:
        if not isinstance(key, str) or not key.endswith(("_quantizer", "_constraint")):
            raise ArgumentError(
                f"a rule has settings such as kernel_quantizer, input_quantizer, "
                f"weight_quantizer or kernel_constraint, found {key!r}."
            )
    if not settings:
        raise ArgumentError(
            "a rule without settings does nothing; write None to leave layers as they are."
        )
    return dict(settings)
