"""The result of a verification, which prints as tables."""

from __future__ import annotations

import html
from typing import Any

import attrs

from qframe.errors import ArgumentError, VerificationError
from qframe.reports.verification.agreement import COLUMNS, Agreement, percent
from qframe.tables import Table, Tabular

# The rows of edges in a table; the attribute has all of them.
_MOST_ROWS = 10


@attrs.frozen
class OutputAgreement:
    """An output of the model and of its file.

    Args:
        name: the name of the output of the model.
        agreement: its numbers.
        same_class: the share of its examples whose largest number is of the same class; of
            the pixels of a map, of the words of a sequence.
        accuracy_model: the accuracy of the model; None without labels.
        accuracy_file: that of the file.
    """

    name: str
    agreement: Agreement
    same_class: float
    accuracy_model: float | None = None
    accuracy_file: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return {
            "name": self.name,
            **self.agreement.to_dict(),
            "same_class": self.same_class,
            "accuracy_model": self.accuracy_model,
            "accuracy_file": self.accuracy_file,
        }


@attrs.frozen
class EdgeAgreement:
    """A tensor between two layers, in the model and in its file.

    Args:
        name: the name of the edge: the path of a layer, and ``:input`` for the output of
            its input quantizer.
        agreement: its numbers; without any where the shapes differ.
        shapes: the shapes of both for a batch, where they differ; else None.
    """

    name: str
    agreement: Agreement
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    @property
    def differs(self) -> bool:
        """Return whether a number is not equal, or the shapes differ."""
        return self.shapes is not None or self.agreement.equal < 1

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        shapes = None if self.shapes is None else [list(shape) for shape in self.shapes]
        return {"name": self.name, **self.agreement.to_dict(), "shapes": shapes}


@attrs.frozen(eq=False)
class Verification(Tabular):
    """The result of `qframe.verify`, which prints as two tables.

    Args:
        target: the exporter of the file.
        examples: the number of examples.
        outputs: the outputs, in the order of the model.
        edges: the edges that the file and the model have, in the order of the model.
        edge_examples: the number of examples whose edges were compared.
        tolerance: the part of the largest magnitude that equal numbers may differ by.
    """

    target: str
    examples: int
    outputs: tuple[OutputAgreement, ...]
    edges: tuple[EdgeAgreement, ...]
    edge_examples: int
    tolerance: float

    @property
    def equal(self) -> float:
        """The share of the numbers of all outputs that are equal."""
        return sum((o.agreement for o in self.outputs), Agreement()).equal

    @property
    def within_one_step(self) -> float | None:
        """The share that is within one step, of the outputs on a grid; None without."""
        grids = [o.agreement for o in self.outputs if o.agreement.within_count is not None]
        return sum(grids, Agreement()).within_one_step

    @property
    def same_class(self) -> float:
        """The share of the examples whose class is the same; of the worst output."""
        return min(output.same_class for output in self.outputs)

    @property
    def accuracy_model(self) -> float | None:
        """The accuracy of the model on the first output with labels; None without any."""
        return next((a for o in self.outputs if (a := o.accuracy_model) is not None), None)

    @property
    def accuracy_file(self) -> float | None:
        """The accuracy of the file on the first output with labels; None without any."""
        return next((a for o in self.outputs if (a := o.accuracy_file) is not None), None)

    @property
    def first_difference(self) -> EdgeAgreement | None:
        """The first edge that differs, in the order of the model; None where none does."""
        return next((edge for edge in self.edges if edge.differs), None)

    def check(
        self,
        *,
        equal: float | None = None,
        within_one_step: float | None = None,
        same_class: float | None = None,
    ) -> None:
        """Raise where the outputs agree too little.

        Args:
            equal: the least share of equal numbers. Default None: any.
            within_one_step: the least share within one step. Default None: any.
            same_class: the least share of the same class. Default None: any.

        Raises:
            VerificationError: a share is smaller; the message says where they differ.
            ArgumentError: a share is not a number from 0 to 1, or `within_one_step` is
                asked of outputs without a grid.

        Example:
            >>> from qframe.reports.verification.result import Verification
            >>> from qframe.reports.verification.result import Agreement, OutputAgreement
            >>> output = OutputAgreement("head", Agreement(100, 98), same_class=0.99)
            >>> verified = Verification("packed", 10, (output,), (), 0, 0.0)
            >>> verified.check(equal=0.9, same_class=0.99)
            >>> verified.check(equal=0.999)  # doctest: +IGNORE_EXCEPTION_DETAIL
            Traceback (most recent call last):
            qframe.errors.VerificationError: equal is 0.98, less than 0.999
        """
        asked = {
            "equal": equal,
            "within_one_step": within_one_step,
            "same_class": same_class,
        }
        failed = []
        for name, least in asked.items():
            if least is None:
                continue
            if isinstance(least, bool) or not 0 <= least <= 1:
                raise ArgumentError(
                    f"{name} of check must be a share from 0 to 1, found {least!r}. Write "
                    f"for example check({name}=0.99)."
                )
            share = getattr(self, name)
            if share is None:
                raise ArgumentError(
                    "within_one_step is asked, and no output of the model is quantized, "
                    "so that none has steps. Ask for equal=, or quantize the output."
                )
            if share < least:
                failed.append(f"{name} is {share:.6g}, less than {least:.6g}")
        if failed:
            raise VerificationError(
                f"the file does not agree with the model: {', and '.join(failed)}. "
                f"{self.conclusion} Export the model again, or ask for less."
            )

    @property
    def conclusion(self) -> str:
        """A sentence about the first difference."""
        first = self.first_difference
        if first is not None:
            if first.shapes is not None:
                one, other = first.shapes
                return f"They differ at {first.name!r}, of the shapes {one} and {other}."
            agreement = first.agreement
            size = f"{agreement.largest:.3g}"
            if agreement.largest_steps is not None:
                steps = f"{agreement.largest_steps:.3g}"
                size += f" ({steps} step{'' if steps == '1' else 's'})"
            different = agreement.count - agreement.equal_count
            return (
                f"They first differ at {first.name!r}, in {different} of {agreement.count} "
                f"numbers, by at most {size}."
            )
        if not self.edges:
            seen = "No edges were compared."
        else:
            count = len(self.edges)
            edges = f"All {count} edges that both have are" if count > 1 else "Its edge is"
            seen = f"{edges} equal for the first {self.edge_examples} examples."
        if self.equal < 1:
            return f"{seen} The outputs differ."
        return f"{seen} The outputs are equal."

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        first = self.first_difference
        return {
            "target": self.target,
            "examples": self.examples,
            "tolerance": self.tolerance,
            "equal": self.equal,
            "within_one_step": self.within_one_step,
            "same_class": self.same_class,
            "accuracy_model": self.accuracy_model,
            "accuracy_file": self.accuracy_file,
            "outputs": [output.to_dict() for output in self.outputs],
            "edge_examples": self.edge_examples,
            "edges": [edge.to_dict() for edge in self.edges],
            "first_difference": None if first is None else first.name,
        }

    def tables(self) -> list[Table]:
        """Return the table of the outputs, and one of the edges around a difference."""
        return [self._outputs(), *([self._edges()] if self.first_difference else [])]

    def _outputs(self) -> Table:
        header = ["Output", *COLUMNS, "Same\nclass"]
        rows = [[o.name, *o.agreement.cells(), percent(o.same_class)] for o in self.outputs]
        if self.accuracy_model is not None:
            header += ["Accuracy\nmodel", "Accuracy\nfile"]
            for row, output in zip(rows, self.outputs, strict=True):
                row += [percent(output.accuracy_model), percent(output.accuracy_file)]
        return Table(f"{self.target} file, {self.examples} examples", header, rows)

    def _edges(self) -> Table:
        first = self.edges.index(self.first_difference)
        # From the last edge that is equal on.
        start = max(0, first - 1)
        shown = self.edges[start : start + _MOST_ROWS]
        rows = [[edge.name, *edge.agreement.cells()] for edge in shown]
        hidden = len(self.edges) - len(shown)
        notes = [f"{hidden} more edges are not shown."] if hidden else []
        title = f"edges, {self.edge_examples} examples"
        return Table(title, ["Edge", *COLUMNS], rows, notes=notes)

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.conclusion}"

    def _repr_html_(self) -> str:
        return f"{super()._repr_html_()}\n<p>{html.escape(self.conclusion)}</p>"
