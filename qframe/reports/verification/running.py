"""A verification: run a model and its file over data, and compare them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from keras import tree
from numpy.typing import NDArray

from qframe import keras_internals, observation
from qframe.deployment.graph.edges import Edge
from qframe.deployment.runtime import EdgeRuntime
from qframe.errors import ArgumentError, DataError, brief
from qframe.exporters import ExportedFile
from qframe.observation import Progress
from qframe.observation.shapes import check_data, check_model, checked_batches
from qframe.paths import AnyPath
from qframe.reports.accuracy import accuracy, predicted
from qframe.reports.verification.agreement import Agreement
from qframe.reports.verification.grids import Grids
from qframe.reports.verification.observing import EdgeObserver
from qframe.reports.verification.pairs import Pair
from qframe.reports.verification.result import EdgeAgreement, OutputAgreement, Verification
from qframe.validation import finite_number, integer_within

Array = NDArray[Any]

# The examples whose edges are in memory together.
_TOGETHER = 32


def verification_of(
    model: Any,
    path: AnyPath,
    data: Any,
    labels: Any,
    *,
    target: str | None,
    batch_size: int | None,
    steps: int | None,
    edge_examples: int,
    tolerance: float,
    verbose: Any,
) -> Verification:
    """Verify a file; the arguments are those of `qframe.verify`."""
    integer_within("verify", "edge_examples", edge_examples, 0, 2**31)
    batch_size, steps = checked_batches(batch_size, steps)
    tolerance = finite_number("verify", "tolerance", tolerance)
    check_model(model, "verification")
    file = ExportedFile.check(path, target)
    pair = Pair(model, file.load(), file)
    check_data(model, data, "verification")
    labels = _labels_of(labels, pair.output_names)
    outputs: list[tuple[list[Array], list[Array]]] = []
    kept: list[Any] = []
    missing, examples = edge_examples, 0
    with Progress("verification") as progress:
        for place, x in enumerate(_batches(data, batch_size, steps)):
            inputs = pair.inputs(x)
            _check_numbers(inputs)
            outputs.append((pair.model_outputs(x), pair.file_outputs(inputs)))
            size = len(inputs[0])
            examples += size
            if missing:
                kept.append(_part(x, 0, missing))
                missing -= min(missing, size)
            if verbose != 0:
                progress.on_predict_batch_end(place)
        if not examples:
            raise DataError("the verification data is empty.")
        grids = Grids.of(model)
        edges = _edges(pair, grids, kept, tolerance)
    both = [
        [np.concatenate(parts) for parts in zip(*side, strict=True)]
        for side in zip(*outputs, strict=True)
    ]
    return Verification(
        target=file.component.name,
        examples=examples,
        outputs=tuple(
            _output(name, y, f, label, step, tolerance)
            for name, y, f, label, step in zip(
                pair.output_names,
                *both,
                labels,
                grids.output_steps(len(labels)),
                strict=True,
            )
        ),
        edges=edges,
        edge_examples=edge_examples - missing,
        tolerance=tolerance,
    )


def _batches(data: Any, batch_size: int | None, steps: int | None) -> Iterator[Any]:
    try:
        yield from keras_internals.batches(data, batch_size, steps)
    except (ValueError, TypeError, LookupError) as error:
        # Errors of qframe in the body of a loop are not raised here.
        raise DataError(
            f"the verification data cannot be read: {brief(error)}. Give what "
            "Model.predict takes: arrays, or batches of them."
        ) from error


def _check_numbers(inputs: list[Array]) -> None:
    """Raise `DataError` for NaN, with which a model and a file agree on nothing."""
    for array in inputs:
        missing = np.isnan(array).sum() if array.dtype.kind == "f" else 0
        if missing:
            raise DataError(
                f"NaN is in {missing} numbers of a batch of the verification "
                "data, and its results say nothing. Leave these examples out."
            )


def _labels_of(labels: Any, names: list[str]) -> list[Any]:
    """The labels of each output; None for those without."""
    if len(names) == 1 or labels is None:
        return [labels] + [None] * (len(names) - 1)
    if not isinstance(labels, (list, tuple)) or len(labels) != len(names):
        raise ArgumentError(
            f"the model has {len(names)} outputs, {', '.join(names)}, and labels is "
            f"{type(labels).__name__}. Give a list with the labels of each, or None for "
            "those without."
        )
    return list(labels)


def _output(
    name: str, y: Array, f: Array, labels: Any, step: Any, tolerance: float
) -> OutputAgreement:
    agreement = Agreement.between(y, f, step, tolerance)
    same = predicted(y) == predicted(f, like=y)
    accuracies: list[float | None] = [None, None]
    if labels is not None:
        accuracies = [accuracy(x, np.asarray(labels)) for x in (y, f)]
    return OutputAgreement(name, agreement, float(same.mean()), *accuracies)


def _edges(
    pair: Pair, grids: Grids, kept: list[Any], tolerance: float
) -> tuple[EdgeAgreement, ...]:
    """Compare the edges of the first examples."""
    if not isinstance(pair.runtime, EdgeRuntime):
        return ()
    parts = [part for x in kept for part in _parts(x)]
    if not parts:
        return ()
    edges_of_parts = map(pair.file_edges, parts)
    first = next(edges_of_parts)
    found: dict[str, EdgeAgreement] = {}
    observer = EdgeObserver(pair.model, {*first})
    with observation.observed_steps(pair.model, observer):
        for x, edges in zip(parts, itertools.chain([first], edges_of_parts), strict=True):
            # Each is one tensor of the whole batch.
            notes = {name: y for name, (y,) in pair.model.predict_on_batch(x).items()}
            for name, y in notes.items():
                if (edge := _edge(name, y, edges, grids, tolerance)) is not None:
                    found[name] = _joined(found.get(name), edge)
    # The order of the model; its code runs in that order where it has no graph.
    order = {name: place for place, name in enumerate(grids.edges)}
    return tuple(sorted(found.values(), key=lambda edge: order.get(edge.name, len(order))))


def _edge(
    name: str, y: Array, edges: Mapping[str, Edge], grids: Grids, tolerance: float
) -> EdgeAgreement | None:
    """Compare an edge of a batch; None if the file has integers of an unknown scale."""
    values, scale = np.asarray(edges[name].values), edges[name].scale
    step = grids.step(name)
    if values.shape != y.shape:
        return EdgeAgreement(name, Agreement(), (y.shape, values.shape))
    if values.dtype.kind in "iu":
        scale = step if scale is None else scale
        if scale is None:
            return None
        values = values * np.asarray(scale, np.float64)
    step = scale if step is None else step
    return EdgeAgreement(name, Agreement.between(y, values, step, tolerance))


def _joined(before: EdgeAgreement | None, edge: EdgeAgreement) -> EdgeAgreement:
    if before is None or before.shapes is not None:
        return before or edge
    if edge.shapes is not None:
        return edge
    return attrs.evolve(edge, agreement=before.agreement + edge.agreement)


def _parts(x: Any) -> Iterator[Any]:
    """The parts of a batch whose edges are in memory together."""
    for start in range(0, len(tree.flatten(x)[0]), _TOGETHER):
        yield _part(x, start, start + _TOGETHER)


def _part(x: Any, start: int, end: int) -> Any:
    return tree.map_structure(lambda array: array[start:end], x)
