"""The protocol of the modules that run the files of exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from qframe.deployment.graph.edges import Edge

Shapes = tuple[tuple[int, ...], ...]


class Runtime(Protocol):
    """A file that is ready to predict: what the function ``load`` of a module returns.

    Its inputs and outputs are those of the Keras model, in its order, as real numbers. A
    file whose inputs are integers quantizes what it gets, and returns real numbers.
    """

    @property
    def input_shapes(self) -> Shapes:
        """The shape of each input, without the batch."""

    @property
    def output_shapes(self) -> Shapes:
        """The shape of each output, without the batch."""

    def predict(self, x: Any, /) -> Any:
        """Return the outputs for a batch of any size.

        Args:
            x: an array, or a list of them for several inputs.

        Returns:
            An array of floats, or a list of them for several outputs.
        """


@runtime_checkable
class EdgeRuntime(Protocol):
    """A runtime that shows the tensors between the operations of its file too."""

    def edges(self, x: Any, /) -> Mapping[str, Edge]:
        """Return the edges that the file has, for the inputs of `predict`.

        The names are those of the model, which `Node.edge` has for each node of the
        deployment graph; a file need not have all of them.
        """


class RuntimeModule(Protocol):
    """The module that an exporter names as its ``runtime``."""

    def load(self, path: Any, /) -> Runtime:
        """Return the file at a path, ready to predict.

        Raises:
            DataError: the file does not exist, is damaged, or holds something else.
            PluginError: a package that runs it is not installed; the message says which.
        """
