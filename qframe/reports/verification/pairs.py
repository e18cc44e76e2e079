"""A model and its file, run on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.deployment.graph.edges import Edge
from qframe.errors import ArgumentError, DataError
from qframe.exporters import ExportedFile
from qframe.observation.shapes import Shapes, input_shapes, output_shapes

Array = NDArray[Any]


class Pair:
    """A model and its file.

    Args:
        model: a built model.
        runtime: the runtime of the file.
        file: the file.

    Raises:
        ArgumentError: they have other inputs or outputs.
    """

    def __init__(self, model: Any, runtime: Any, file: ExportedFile) -> None:
        self.model, self.runtime, self._file = model, runtime, file
        self._graph = keras_internals.graph_of(model)
        for verb, shapes, found in (
            ("takes", input_shapes(model), runtime.input_shapes),
            ("returns", output_shapes(model), runtime.output_shapes),
        ):
            if shapes is not None and not _fit(shapes, found):
                raise ArgumentError(
                    f"{file.path} {verb} {_listed(found)} for each example, and "
                    f"{model.name!r} {verb} {_listed([s[1:] for s in shapes])}. It is the "
                    f"file of another model. Write it with qframe.export(model, path, "
                    f"target={file.component.name!r})."
                )

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs of the model."""
        count = len(self.runtime.output_shapes)
        names = getattr(self.model, "output_names", None) or []
        if self._graph is not None and len(names) == len({*names}) == count:
            return list(names)
        return [f"output {i}" for i in range(1, count + 1)] if count > 1 else ["output"]

    def inputs(self, x: Any) -> list[Array]:
        """The inputs of a batch as arrays, in the order of the model.

        Raises:
            DataError: they do not fit the model.
        """
        if self._graph is None:
            return [np.asarray(part) for part in tree.flatten(x)]
        given, count = len(tree.flatten(x)), len(self._graph.inputs)
        # Keras leaves out what is too much, of a list too.
        if given > count and not isinstance(x, dict):
            raise DataError(
                f"the data has {given} arrays, and {self.model.name!r} takes {count}. Give "
                "an array of all examples for each input, and labels as labels=."
            )
        try:
            arrays = keras_internals.flat_inputs(self._graph, x)
        except (ValueError, TypeError, LookupError) as error:
            raise DataError(
                f"the data does not fit {self.model.name!r}: {error} Give it as "
                "Model.predict takes it."
            ) from error
        shapes = [tuple(tensor.shape) for tensor in self._graph.inputs]
        found = [array.shape[1:] for array in arrays]
        if not _fit(shapes, found):
            raise DataError(
                f"the data has examples of {_listed(found)}, and {self.model.name!r} takes "
                f"{_listed([s[1:] for s in shapes])}. Give it as it was trained: of that "
                "shape, and scaled."
            )
        return arrays

    def model_outputs(self, x: Any) -> list[Array]:
        """The outputs of the model for a batch."""
        outputs = tree.flatten(self.model.predict_on_batch(x))
        return [np.asarray(output, np.float32) for output in outputs]

    def file_outputs(self, inputs: list[Array]) -> list[Array]:
        """The outputs of the file for a batch."""
        outputs = self.runtime.predict(_of_file(inputs))
        several = isinstance(outputs, (list, tuple))
        return [np.asarray(output) for output in (outputs if several else [outputs])]

    def file_edges(self, x: Any) -> Mapping[str, Edge]:
        """The edges of the file for a batch."""
        edges: Mapping[str, Edge] = self.runtime.edges(_of_file(self.inputs(x)))
        return edges


def _of_file(inputs: list[Array]) -> Any:
    """Inputs as a runtime takes them: a list only of several."""
    return inputs if len(inputs) > 1 else inputs[0]


def _fit(shapes: Shapes, found: Any) -> bool:
    """Return whether shapes of examples are those of batches."""
    return len(shapes) == len(found) and all(
        len(shape) == len(one) + 1
        and all(a in (None, b) for a, b in zip(shape[1:], one, strict=True))
        for shape, one in zip(shapes, found, strict=True)
    )


def _listed(shapes: Any) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes)
