"""One-line mutations of a source file, from its syntax tree.

Strings are not mutated, as most of them are text for people. The same holds for errors and
warnings, and for arguments on which no result depends.
"""

import ast
import re
from collections import Counter

import attrs

from mutants.mutation import OPERATORS, Mutant

# Arguments for validation, for a compiler, for a cache and for the look of a terminal.
UNOBSERVED = {"strict", "stacklevel", "encoding", "nogil", "cache", "maxsize", "slots"}
UNOBSERVED |= {"help", "soft_wrap", "show_edge", "show_default", "transient", "flush"}
UNMUTATED = {"__all__", "__version__"}


def mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of its lines; a few do not compile."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    seen: Counter[tuple[str, str, str]] = Counter()
    result = []
    for mutant in sorted(finder.recorded, key=lambda m: (m.line, m.kind, m.after)):
        key = mutant.kind, mutant.before.strip(), mutant.after.strip()
        seen[key] += 1
        result.append(attrs.evolve(mutant, occurrence=seen[key]))
    return result


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: str) -> None:
        self.path, self.lines = path, source.split("\n")
        self.recorded: set[Mutant] = set()

    def add(self, kind: str, line: int, start: int, end: int, new: str) -> None:
        """Replace a part of a line; the syntax tree counts columns in bytes."""
        before = self.lines[line - 1]
        data = before.encode()
        after = (data[:start] + new.encode() + data[end:]).decode()
        if before != after:
            self.recorded.add(Mutant(self.path, line, kind, before, after))

    def replace(self, kind: str, node: ast.expr, new: str) -> None:
        if node.lineno == node.end_lineno:
            self.add(kind, node.lineno, node.col_offset, node.end_col_offset or 0, new)

    def exchange(self, kind: str, left: ast.expr, right: ast.expr, op: ast.AST) -> None:
        """Exchange an operator that stands on one line with both of its neighbours."""
        if type(op) in OPERATORS and left.end_lineno == right.lineno:
            old, new = OPERATORS[type(op)]
            start = left.end_col_offset or 0
            gap = self.lines[right.lineno - 1].encode()[start : right.col_offset]
            at = re.search(re.escape(old).replace(r"\ ", r"\s+").encode(), gap)
            if at:
                self.add(kind, right.lineno, start + at.start(), start + at.end(), new)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right, op in zip(operands, operands[1:], node.ops, strict=False):
            self.exchange("comparison", left, right, op)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.exchange("boolean", left, right, node.op)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(_is_text(side) for side in (node.left, node.right)):
            self.exchange("arithmetic", node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if not _is_text(node.value):
            self.exchange("arithmetic", node.target, node.value, node.op)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        word = {ast.Not: "not", ast.USub: "-"}.get(type(node.op), "")
        if word and not isinstance(node.operand, ast.Constant):
            kind = "not" if word == "not" else "arithmetic"
            start = node.col_offset
            rest = self.lines[node.lineno - 1].encode()[start:]
            length = len(rest) - len(rest[len(word) :].lstrip())
            self.add(kind, node.lineno, start, start + length, "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.replace("constant", node, str(not node.value))
        elif isinstance(node.value, int | float):
            self.replace("constant", node, repr(node.value + 1))

    def branch(self, test: ast.expr) -> None:
        if not any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(test)):
            for forced in ("True", "False"):
                self.replace("branch", test, forced)

    def visit_If(self, node: ast.If) -> None:
        test = ast.unparse(node.test)
        if test.endswith("TYPE_CHECKING") or test.startswith("__name__"):
            for inner in node.orelse:
                self.visit(inner)
            return
        self.branch(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.branch(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.branch(test)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value and getattr(node.value, "value", ...) is not None:
            self.replace("return", node.value, "None")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        if called == "warn":
            return
        self.visit(node.func)
        for argument in node.args[called == "cast" :]:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in UNOBSERVED:
                self.drop(keyword)
            if keyword.arg not in UNOBSERVED:
                self.visit(keyword.value)

    def drop(self, keyword: ast.keyword) -> None:
        """Drop an argument and the comma after it, or else the one before it."""
        if keyword.lineno == keyword.end_lineno:
            line = self.lines[keyword.lineno - 1].encode()
            start, end = keyword.col_offset, keyword.end_col_offset or 0
            if after := re.match(rb"\s*,\s*", line[end:]):
                end += after.end()
            elif before := re.search(rb"\s*,\s*$", line[:start]):
                start = before.start()
            self.add("argument", keyword.lineno, start, end, "")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not UNMUTATED & {ast.unparse(target) for target in node.targets}:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        # An argument itself has nothing but its annotation.
        defaults = [value for value in node.args.kw_defaults if value]
        for inner in (*node.decorator_list, *node.args.defaults, *defaults, *node.body):
            self.visit(inner)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass


def _is_text(node: ast.expr) -> bool:
    """Return whether this is text, for which operators have another meaning."""
    return isinstance(node, ast.JoinedStr) or isinstance(
        getattr(node, "value", None), str | bytes
    )
