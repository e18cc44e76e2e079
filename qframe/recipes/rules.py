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
    """A selector of layers and their settings, such as ``kernel_quantizer``; None for none.

    Args:
        selector: a layer class, a class name, ``"re:<regex on the path>"``, `first`,
            `last`, a callable layer -> bool, or None for every layer.
        words: the settings ``<slot>_quantizer`` and ``<prefix>_constraint``; None leaves
            a layer as it is.
    """

    selector: Any
    words: Mapping[str, Any] | None

    def matches(self, path: str, layer: Any, cls: type, index: int, count: int) -> bool:
        """Whether the rule applies to a layer, the index-th of `count` quantizable ones."""
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
    """The rules that a user wrote as a dict, or as an ordered list of pairs.

    Raises:
        ArgumentError: something else, an unknown kind of selector, a broken regex, a
            setting that no layer could have.
    """
    if isinstance(rules, Mapping):
        return [_rule(None, rules)]
    if isinstance(rules, (str, bytes)) or not isinstance(rules, Iterable):
        raise _wrong(rules)
    parsed = []
    for item in rules:
        if isinstance(item, Rule):
            parsed.append(_rule(item.selector, item.words))
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            parsed.append(_rule(*item))
        else:
            raise _wrong(item)
    if not parsed:
        raise _wrong(rules)
    return parsed


def _wrong(found: Any) -> ArgumentError:
    return ArgumentError(
        "rules are a dict such as {'kernel_quantizer': 'ste_sign'}, or a list of pairs "
        f"(selector, dict or None); found {found!r}."
    )


def _rule(selector: Any, words: Any) -> Rule:
    if words is not None and not isinstance(words, Mapping):
        raise _wrong((selector, words))
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
    return Rule(selector, None if words is None else _checked(words))


def _check_text(selector: str) -> None:
    if selector.startswith("re:"):
        try:
            patterns.parse(selector[3:])
        except ArgumentError as error:
            raise ArgumentError(f"selector {shown(selector)} {error}") from None
    elif not selector.isidentifier():
        raise ArgumentError(
            f"selector {shown(selector)} is no class name; a regex on the path begins with "
            f"re:, as in {shown('re:' + selector)}."
        )


def _checked(words: Mapping[Any, Any]) -> dict[str, Any]:
    """A copy of the settings, which no later change reaches."""
    for key in words:
        if not isinstance(key, str) or not key.endswith(("_quantizer", "_constraint")):
            raise ArgumentError(
                f"a rule has words such as kernel_quantizer, input_quantizer, "
                f"weight_quantizer or kernel_constraint, found {key!r}."
            )
    if not words:
        raise ArgumentError(
            "a rule without words gives nothing; write None to leave layers as they are."
        )
    return dict(words)
