"""Identifiers: ``[namespace:]name[(key=literal, ...)]``, never evaluated."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

import attrs

from qframe.errors import IdentifierError

_HEAD = re.compile(
    r"\s*(?:(?P<namespace>[A-Za-z_][\w.-]*)\s*:)?\s*(?P<name>[A-Za-z_]\w*)\s*"
)
_EXPECTED = "Expected [namespace:]name[(key=literal, ...)], for example "
_EXAMPLE = "'binary:ste_sign(clip_value=1.0)'."


@attrs.frozen
class Identifier:
    """The parsed form of an identifier; ``str`` is the inverse of `parse`.

    >>> Identifier.parse("binary:ste_sign(clip_value=1.0)")
    Identifier(name='ste_sign', namespace='binary', arguments={'clip_value': 1.0})
    >>> str(Identifier("ste_sign", arguments={"clip_value": None}))
    'ste_sign(clip_value=None)'
    """

    name: str
    namespace: str | None = None
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    # For names whose users know the order of the arguments; such a name has no key=value.
    positional: tuple[Any, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str, *, positional: bool = False) -> Identifier:
        """Read an identifier; raises `IdentifierError` that quotes the part at fault.

        Args:
            text: ``"[namespace:]name[(key=literal, ...)]"``.
            positional: accept ``"name(literal, ...)"`` too. Default False.
        """
        head = _HEAD.match(text)
        if head is None:
            raise _malformed(text, "it does not begin with a name")
        rest = text[head.end() :].rstrip()
        values, arguments = _parse_arguments(text, rest) if rest else ((), {})
        if values and not positional:
            raise without_key(text, values[0])
        return cls(head["name"], head["namespace"], arguments, values)

    @property
    def qualified_name(self) -> str:
        """``namespace:name``, or the bare name where there is no namespace."""
        return f"{self.namespace}:{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        if not self.arguments and not self.positional:
            return self.qualified_name
        values = [_literal(str(i), v) for i, v in enumerate(self.positional)]
        pairs = [f"{key}={_literal(key, v)}" for key, v in self.arguments.items()]
        return f"{self.qualified_name}({', '.join(values + pairs)})"


def _malformed(text: str, reason: str) -> IdentifierError:
    return IdentifierError(
        f"{text!r} is not an identifier: {reason}. {_EXPECTED}{_EXAMPLE}"
    )


def without_key(text: str, value: Any) -> IdentifierError:
    """The error for a value that needs its key."""
    return _malformed(text, f"argument {repr(value)!r} has no key; write key=value")


def _parse_arguments(text: str, rest: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not (rest.startswith("(") and rest.endswith(")")):
        raise _malformed(text, f"{rest!r} follows the name")
    try:
        call = ast.parse(f"_{rest}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _malformed(text, f"{rest!r} is not an argument list ({error})") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise _malformed(text, f"{rest!r} is not one argument list")
    if call.args and call.keywords:
        raise _malformed(
            text, "it mixes arguments with and without a key; write key=value for all"
        )
    values = tuple(_read(text, rest, value, "an argument") for value in call.args)
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _malformed(text, "** is not allowed")
        if keyword.arg in arguments:
            raise _malformed(text, f"argument {keyword.arg!r} is given twice")
        arguments[keyword.arg] = _read(text, rest, keyword.value, repr(keyword.arg))
    return values, arguments


def _read(text: str, rest: str, value: ast.expr, what: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (TypeError, ValueError, RecursionError, MemoryError):
        shown = (ast.get_source_segment(f"_{rest}", value) or "")[:200]
        raise _malformed(
            text,
            f"the value {shown!r} of {what} is not a literal (a number, a "
            "string, True, False, None, or a tuple, list or dict of them)",
        ) from None


def _literal(key: str, value: Any) -> str:
    """The text that `ast.literal_eval` reads back as `value`."""
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(_literal(key, item) for item in value)
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict):
        pairs = (f"{_literal(key, k)}: {_literal(key, v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if value is None:
        return "None"
    for kind in (bool, int, float, str):
        # A subclass, such as a numpy scalar or an enum, may print itself as a call.
        if isinstance(value, kind) and value == value:
            return repr(kind(value))
    raise IdentifierError(
        f"argument {key!r} holds {value!r} of type {type(value).__name__}, which has no "
        "literal form. Use a number, a string, True, False, None, or a tuple, list or "
        "dict of them."
    )
