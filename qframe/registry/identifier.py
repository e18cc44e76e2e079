"""Identifiers: ``[namespace:]name[(key=literal, ...)]``, never evaluated."""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import attrs

from qframe.errors import IdentifierError, shown

_NAMESPACE = re.compile(r"[A-Za-z_][\w.-]*")
_NAME = re.compile(r"[A-Za-z_]\w*")
# Far more than a component needs, and safe for the parser of each Python.
_LONGEST = 4096
_DEEPEST = 32
_LITERALS = (
    "a number that fits a float, a string, True, False, None, or a tuple, list or dict "
    "of them"
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
    # Arguments without a key, for names that allow them.
    positional: tuple[Any, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str, *, positional: bool = False) -> Identifier:
        """Read an identifier; raises `IdentifierError`, which quotes the faulty part.

        Args:
            text: ``"[namespace:]name[(key=literal, ...)]"``.
            positional: accept ``"name(literal, ...)"`` too. Default False.
        """
        if not isinstance(text, str):
            raise _malformed(text, f"it is of type {type(text).__name__}, not text")
        if len(text) > _LONGEST:
            raise _malformed(
                text, f"it has {len(text)} characters, and at most {_LONGEST} are read"
            )
        name, namespace, tail = _split(text)
        values, arguments = _parse_arguments(text, tail) if tail else ((), {})
        if values and not positional:
            raise without_key(text, values[0])
        return cls(name, namespace, arguments, values)

    @property
    def qualified_name(self) -> str:
        """``namespace:name``, or the bare name without a namespace."""
        return f"{self.namespace}:{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        if not self.arguments and not self.positional:
            return self.qualified_name
        values = [_literal(str(i), v) for i, v in enumerate(self.positional)]
        pairs = [f"{key}={_literal(key, v)}" for key, v in self.arguments.items()]
        text = f"{self.qualified_name}({', '.join(values + pairs)})"
        if len(text) > _LONGEST:
            raise IdentifierError(
                f"{shown(text)} has {len(text)} characters, and an identifier at most "
                f"{_LONGEST}. Pass the object itself, or shorter arguments."
            )
        return text


def _malformed(text: str, reason: str) -> IdentifierError:
    return IdentifierError(
        f"{shown(text)} is not an identifier: {reason}. {_EXPECTED}{_EXAMPLE}"
    )


def without_key(text: str, value: Any) -> IdentifierError:
    """The error for a value that needs its key."""
    return _malformed(text, f"argument {shown(repr(value))} has no key; write key=value")


def _split(text: str) -> tuple[str, str | None, str]:
    """The name, the namespace or None, and the text after the name."""
    namespace: str | None
    namespace, colon, tail = text.partition(":")
    namespace = namespace.strip()
    if not (colon and _NAMESPACE.fullmatch(namespace)):
        namespace, tail = None, text
    tail = tail.strip()
    name = _NAME.match(tail)
    if name is None:
        reason = "it does not begin with a name"
        raise _malformed(text, f"no name follows {namespace}:" if namespace else reason)
    return name[0], namespace, tail[name.end() :].lstrip()


def _parse_arguments(text: str, tail: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not (tail.startswith("(") and tail.endswith(")")):
        raise _malformed(text, f"{shown(tail)} follows the name")
    source = f"_{tail}"
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _malformed(text, f"{shown(tail)} is not an argument list ({error})") from None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        # The closing parenthesis may be in a comment.
        or ast.get_source_segment(source, call) != source
    ):
        raise _malformed(text, f"{shown(tail)} is not one argument list")
    if call.args and call.keywords:
        raise _malformed(
            text, "it mixes arguments with and without a key; write key=value for all"
        )
    values = tuple(_read(text, source, value, "an argument") for value in call.args)
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _malformed(text, "** is not allowed")
        if keyword.arg in arguments:
            raise _malformed(text, f"argument {keyword.arg!r} is given twice")
        arguments[keyword.arg] = _read(text, source, keyword.value, repr(keyword.arg))
    return values, arguments


def _read(text: str, source: str, value: ast.expr, name: str) -> Any:
    try:
        return _evaluate(value)
    except (TypeError, ValueError):
        part = shown(ast.get_source_segment(source, value) or "")
        raise _malformed(
            text, f"the value {part} of {name} is not a literal ({_LITERALS})"
        ) from None


def _evaluate(node: ast.expr | None, depth: int = 0) -> Any:
    """The value of a literal that `_literal` may write."""
    if depth > _DEEPEST:
        raise ValueError
    if isinstance(node, ast.Constant):
        value = node.value
        if not isinstance(value, (int, float, str, type(None))) or _is_huge(value):
            raise ValueError
        return value
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        value = _evaluate(node.operand)
        if type(value) in (int, float) and isinstance(node.op, (ast.UAdd, ast.USub)):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, (ast.Tuple, ast.List)):
        items = [_evaluate(item, depth + 1) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        keys = [_evaluate(key, depth + 1) for key in node.keys]
        values = [_evaluate(value, depth + 1) for value in node.values]
        return dict(zip(keys, values, strict=True))
    raise ValueError


def _literal(key: str, value: Any, depth: int = 0) -> str:
    """The text that `_evaluate` reads back as `value`."""
    if depth <= _DEEPEST:
        if isinstance(value, float) and math.isinf(value):
            return "1e999" if value > 0 else "-1e999"
        if isinstance(value, (tuple, list)):
            inside = ", ".join(_literal(key, item, depth + 1) for item in value)
            if isinstance(value, list):
                return f"[{inside}]"
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if isinstance(value, dict):
            pairs = (
                f"{_literal(key, k, depth + 1)}: {_literal(key, v, depth + 1)}"
                for k, v in value.items()
            )
            return "{" + ", ".join(pairs) + "}"
        if value is None:
            return "None"
        for kind in (bool, int, float, str):
            # A subclass, such as a numpy scalar or an enum, may print itself as a call.
            if isinstance(value, kind) and value == value and not _is_huge(value):
                return repr(kind(value))
    raise IdentifierError(
        f"argument {key!r} holds {shown(value)} of type {type(value).__name__}, which has "
        f"no literal form. Use {_LITERALS}."
    )


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > sys.float_info.max
