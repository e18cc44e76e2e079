"""Regular expressions without backtracking: a subset of Python's, in linear time."""

from __future__ import annotations

import functools
import re
import warnings
from typing import Any

import attrs

from qframe.errors import ArgumentError

_LONGEST = 8192
_DEEPEST = 20
_MOST_STEPS = 10_000

_FLAGS = re.compile(r"\(\?([aimsu]+)\)")
_QUANTIFIER = re.compile(r"([*+?]|\{(?!\})([0-9]*)(,?)([0-9]*)\})(\??)")
_GROUP = re.compile(r"\((\?:|\?P<\w+>)?(?!\?)")
_ATOM = re.compile(
    r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|.)|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL
)
_POSITIONS = frozenset(("^", "$", r"\A", r"\Z", r"\z", r"\b", r"\B"))

_INSTEAD = (
    ("(?P=", "refers to a group; write its text again"),
    ("(?P", "begins an unknown group; write ( and )"),
    ("(?>", "begins an atomic group; write (?: instead"),
    ("(?#", "begins a comment; leave it out"),
    ("(?(", "begins a condition; write one rule for each case"),
    ("(?=", "looks ahead; write one rule for each case, since the first that matches wins"),
    ("(?!", "looks ahead; write a rule for what to leave out before this one"),
    ("(?<", "looks back; write a rule for what to leave out before this one"),
    ("(?", "sets a flag within the regex; write (?i) at its beginning"),
)


@attrs.frozen(eq=False)
class _Step:
    """A test of a character or a position in a text."""

    regex: re.Pattern[str]
    literal: str
    wide: bool

    @classmethod
    def of(cls, source: str, flags: re.RegexFlag) -> _Step:
        """Compile the source of one character or position."""
        plain = len(source) == 1 and source not in ".^$" and not flags
        regex = re.compile(source, flags)
        return cls(regex, source if plain else "", source not in _POSITIONS)

    def fits(self, text: str, position: int) -> bool:
        """Return whether the text passes the test at this position."""
        if self.literal:
            return text[position] == self.literal
        return self.regex.match(text, position) is not None


# A tuple has the offsets of the next steps.
_Program = list[_Step | tuple[int, ...]]


@attrs.frozen(eq=False)
class Pattern:
    """A regular expression, made by `parse`."""

    program: _Program

    def matches(self, text: str) -> bool:
        """Return whether it matches anywhere in a text, as `re.search` does.

        All alternatives advance together, so that no character is read twice.
        """
        reached: list[int] = []
        for position in range(len(text) + 1):
            waiting = self._closure([0, *reached], text, position)
            if waiting is None:
                return True
            if position < len(text):
                reached = [at + 1 for at, step in waiting if step.fits(text, position)]
        return False

    def _closure(
        self, starts: list[int], text: str, position: int
    ) -> list[tuple[int, _Step]] | None:
        """Return the steps that wait for the character here; None after a match."""
        seen: set[int] = set()
        waiting = []
        while starts:
            at = starts.pop()
            if at in seen:
                continue
            seen.add(at)
            if at == len(self.program):
                return None
            step = self.program[at]
            if isinstance(step, tuple):
                starts += [at + offset for offset in step]
            elif step.wide:
                waiting.append((at, step))
            elif step.fits(text, position):
                starts.append(at + 1)
        return waiting


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Pattern:
    """Parse a regular expression.

    Raises:
        ArgumentError: it is invalid, is too large, or needs backtracking. The message
            continues after the text of the expression.
    """
    if len(text) > _LONGEST:
        raise ArgumentError(
            f"has {len(text)} characters, and a regex at most {_LONGEST}. Write several "
            "rules."
        )
    with warnings.catch_warnings():
        # Python warns of [[a], since a future version may read it in another way.
        warnings.simplefilter("ignore")
        try:
            re.compile(text)
        except re.error as error:
            raise ArgumentError(f"is not a regex: {error}.") from None
        except (OverflowError, RecursionError, MemoryError) as error:
            raise ArgumentError(
                f"is too large for a regex: {error}. Nest and repeat less."
            ) from None
        return Pattern(_Parser(text).whole())


@attrs.define
class _Parser:
    """A parser of texts that `re` accepts."""

    text: str
    at: int = 0
    depth: int = 0
    flags: re.RegexFlag = attrs.field(factory=lambda: re.RegexFlag(0))

    def whole(self) -> _Program:
        if match := self.take(_FLAGS):
            for letter in match[1]:
                self.flags |= getattr(re, letter.upper())
        return self.alternatives()

    def take(self, token: re.Pattern[str]) -> re.Match[str] | None:
        match = token.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def alternatives(self) -> _Program:
        program = self.sequence()
        while self.text.startswith("|", self.at):
            self.at += 1
            other = self.sequence()
            program = _checked([(1, len(program) + 2), *program, (len(other) + 1,), *other])
        return program

    def sequence(self) -> _Program:
        program: _Program = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            program += self.quantified(self.item())
            _checked(program)
        return program

    def item(self) -> _Program:
        if not self.text.startswith("(", self.at):
            return [self.step()]
        if not self.take(_GROUP):
            at = self.at
            raise _unbounded(*next(p for p in _INSTEAD if self.text.startswith(p[0], at)))
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ArgumentError(
                f"nests more than {_DEEPEST} groups. Write several rules, or fewer groups."
            )
        program = self.alternatives()
        self.depth -= 1
        self.at += 1
        return program

    def step(self) -> _Step:
        match = self.take(_ATOM)
        source = match[0] if match else ""
        if re.match(r"\\[0-9]", source):
            raise _unbounded(source, "refers to a group; write its text again")
        return _Step.of(source, self.flags)

    def quantified(self, part: _Program) -> _Program:
        match = self.take(_QUANTIFIER)
        if not match:
            return part
        if self.text.startswith("+", self.at):
            raise _unbounded(f"{match[1]}+", f"is possessive; write {match[1]}")
        least, most = _times(match)
        size = (len(part) + 2) * max(least, most or 0, 1)
        if size > _MOST_STEPS:
            raise _large(match[1])
        program = part * least
        if most is None:
            return [*program, (1, len(part) + 2), *part, (-len(part) - 1,)]
        return program + [(1, len(part) + 1), *part] * (most - least)


def _times(match: re.Match[str]) -> tuple[int, int | None]:
    """Return the least and the most repetitions of a quantifier; None is any number."""
    kind, low, comma, high = match.group(1, 2, 3, 4)
    if kind in "*+?":
        return int(kind == "+"), 1 if kind == "?" else None
    least = int(low or 0)
    if not comma:
        return least, least
    return least, int(high) if high else None


def _checked(program: Any) -> _Program:
    if len(program) > _MOST_STEPS:
        raise _large("it")
    return program


def _large(part: str) -> ArgumentError:
    return ArgumentError(
        f"is too large for a regex: {part} repeats too much. Write * or +, or fewer "
        "repetitions."
    )


def _unbounded(part: str, instead: str) -> ArgumentError:
    return ArgumentError(
        f"has {part}, which {instead}. Only what takes linear time is read: characters, "
        "classes such as [a-z] and \\d, groups, |, *, +, ?, {m,n}, ^, $ and \\b."
    )
