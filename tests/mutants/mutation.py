"""Mutations of one line of a source file."""

import ast

import attrs

# Each operator, and the one that replaces it.
OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}


@attrs.frozen
class Mutant:
    """A change of one line; equal changes of a file are numbered from its top."""

    path: str
    line: int
    kind: str
    before: str
    after: str
    occurrence: int = 1

    @property
    def name(self) -> str:
        """The identity of a mutant, which does not depend on the lines above it."""
        suffix = f" ({self.occurrence})" if self.occurrence > 1 else ""
        return f"{self.path} {self._change}{suffix}"

    @property
    def diff(self) -> str:
        place, change = f"{self.path}:{self.line}", self._change
        return f"{place} {change}"

    @property
    def _change(self) -> str:
        return f'{self.kind}: "{self.before.strip()}" -> "{self.after.strip()}"'

    def applied(self, source: str) -> str:
        """Return the source with this change."""
        lines = source.split("\n")
        if lines[self.line - 1] != self.before:
            raise ValueError(f"{self.path} is not the file of {self.diff}")
        lines[self.line - 1] = self.after
        return "\n".join(lines)

    def compiles(self, source: str) -> bool:
        """Return whether the source is still Python with this change."""
        try:
            compile(self.applied(source), self.path, "exec", dont_inherit=True)
        except SyntaxError:
            return False
        return True
