"""Run packed models with NumPy, numba and safetensors, without Keras.

Example:
    >>> import qframe as qf
    >>> runtime = qf.packed.load("m.safetensors")  # doctest: +SKIP
    >>> probabilities = runtime.predict(images)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.edges import Edge
from qframe.deployment.graph.values import Value
from qframe.errors import ArgumentError, PluginError
from qframe.paths import AnyPath
from qframe.tables import Table
from qframe_packed import files
from qframe_packed.graph import PackedGraph
from qframe_packed.interpreter import Interpreter
from qframe_packed.limits import Limits, cost_of
from qframe_packed.packing import PackedTensor

__all__ = ["Runtime", "load"]

ENGINES = ("numba", "numpy")
_REPEATS = 20
_HEADER = (
    "Layer",
    "Operation",
    "Input\n(bit)",
    "Weights\n(bit)",
    "Output",
    "Bytes",
    "Kernel",
)


def load(
    path: AnyPath, engine: str | None = None, memory: int = 2**31, work: int = 2**36
) -> Runtime:
    """Load a model that `qframe.export` wrote with the target ``packed``.

    Args:
        path: a ``.safetensors`` file. It may come from anyone: any other content is
            refused before anything is computed.
        engine: ``"numba"`` compiles kernels for this machine at their first use;
            ``"numpy"`` is exact, easy to read and slow. Default None: ``"numba"`` where it
            is installed.
        memory: the most bytes that one sample may need. A small file can ask for any
            number; raise it for files of people that you trust. Default 2 GiB.
        work: the most operations with numbers for one sample; a product is one. Default
            2^36.

    Raises:
        ArgumentError: the engine is unknown; `memory` or `work` is not a positive integer.
        DataError: the file does not exist, holds something else, is damaged, or needs more
            memory or work.
        PluginError: safetensors, or the requested numba, is not installed.

    Example:
        >>> import qframe as qf
        >>> runtime = qf.packed.load("m.safetensors")  # doctest: +SKIP
    """
    if engine not in (None, *ENGINES):
        raise ArgumentError(f"the engines are {' and '.join(ENGINES)}, found {engine!r}.")
    limits = Limits(memory, work)
    return Runtime(files.read(path), engine or _fastest(), limits)


def _fastest() -> str:
    """The fastest engine that is installed."""
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return "numpy"
    return "numpy" if numba.config.DISABLE_JIT else "numba"


def _engine(graph: PackedGraph, name: str) -> Any:
    if name == "numpy":
        return Interpreter(graph)
    try:
        if importlib.import_module("numba").config.DISABLE_JIT:
            raise PluginError(
                "the engine 'numba' compiles, and the variable NUMBA_DISABLE_JIT says not "
                "to. Unset it, or write engine='numpy'."
            )
        from qframe_packed.compiled.engine import Engine
    except ImportError as error:
        raise PluginError(
            f"the engine 'numba' needs numba, which cannot be imported ({error}). Write: "
            "pip install 'keras-qframe[packed]'"
        ) from error
    return Engine(graph)


@attrs.define(eq=False)
class Runtime:
    """A packed model, ready to predict; threads may share it."""

    graph: PackedGraph
    engine: str = "numpy"
    limits: Limits = attrs.field(factory=Limits)
    _engine: Any = attrs.field(init=False)
    _values: list[Value] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limits.check(cost_of(self.graph))
        self._values = self.graph.values()
        self._engine = _engine(self.graph, self.engine)
        self.limits.check_memory(self._engine.least_bytes)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs, without the batch."""
        return self.graph.inputs

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the outputs, without the batch."""
        return tuple(self._values[index].shape for index in self.graph.outputs)

    def predict(self, x: Any, threads: int = 1) -> Any:
        """The outputs of the model in inference.

        Args:
            x: an array of any real dtype, its first axis the batch, of any size; a list of
                arrays for a model with several inputs, in their order.
            threads: the most threads to use, each for a part of the batch. If there are
                clearly more threads than samples, they share each sample, no more of them
                than there are cores, and a model that takes well below a millisecond has
                one thread. The bits of the result do not depend on it.

        Returns:
            A float32 array, its first axis the batch; a list of them for a model with
            several outputs. A number that is not finite is quantized as it compares: NaN
            as the smallest.

        Raises:
            ArgumentError: the arrays have other shapes, or are not of real numbers; or
                `threads` is not a positive integer; or an index is beyond the rows of an
                embedding.
        """
        if type(threads) is not int or threads < 1:
            raise ArgumentError(f"threads is a whole number from 1 on, found {threads!r}.")
        inputs = self._check_inputs(x)
        outputs = self._engine.predict(inputs, threads)
        return outputs if len(outputs) > 1 else outputs[0]

    def edges(self, x: Any) -> dict[str, Edge]:
        """The tensors of the file that are edges of the model, by name.

        The engine ``"numpy"`` computes them, whichever the runtime has.

        Args:
            x: as of `predict`; the tensors for the whole batch are in memory together.

        Returns:
            The edges in the order of the file. A packed file has no scales, so that those
            of integers are None. A file of a qframe that named none has none.

        Raises:
            ArgumentError: as `predict`.
        """
        inputs = self._check_inputs(x)
        engine = self._engine if self.engine == "numpy" else Interpreter(self.graph)
        return {name: Edge(values) for name, values in engine.edges(inputs).items()}

    def warm_up(self) -> Runtime:
        """Compile now and not in the first prediction; numba caches it for other processes.

        Returns:
            The runtime.
        """
        self._engine.predict([np.zeros((1, *shape)) for shape in self.graph.inputs])
        return self

    def _check_inputs(self, x: Any) -> list[NDArray[Any]]:
        shapes = self.graph.inputs
        if len(shapes) == 1:
            return [_checked(x, shapes[0])]
        if not isinstance(x, (list, tuple)) or len(x) != len(shapes):
            raise ArgumentError(
                f"predict takes a list of {len(shapes)} arrays, found {type(x).__name__}."
            )
        arrays = [_checked(*pair) for pair in zip(x, shapes, strict=True)]
        if len({len(array) for array in arrays}) > 1:
            sizes = ", ".join(str(len(array)) for array in arrays)
            raise ArgumentError(f"predict takes batches of one size, found {sizes}.")
        return arrays

    def summary(
        self, profile: bool = False, print_fn: Callable[[str], Any] | None = None
    ) -> None:
        """Print a table of the operations, with their kernels and sizes.

        Args:
            profile: whether to time each operation, in microseconds, on one sample and in
                one thread. Everything in the row of an operation is done together with it.
                Products have a share of the peak: of those that the processor makes in
                this time in registers alone, by the instruction of the kernel.
            print_fn: called with the text; `print` by default.

        Raises:
            ArgumentError: `profile` with the engine ``"numpy"``, which has no kernels.
        """
        if profile and self.engine == "numpy":
            raise ArgumentError(
                "the engine 'numpy' is not profiled. Write qframe.packed.load(path, "
                "engine='numba')."
            )
        (print_fn or print)(self._table(profile).to_text())

    def _repr_html_(self) -> str:
        return self._table().to_html()

    def _table(self, profile: bool = False) -> Table:
        seconds = self._engine.seconds(1, _REPEATS) if profile else []
        rows = [
            self._row(place, kernel) for place, kernel in enumerate(self._engine.kernels)
        ]
        total = sum(_size(node.operation) for node in self.graph.nodes)
        footer: tuple[str, ...] = ("Total", "", "", "", "", str(total), "")
        header: tuple[str, ...] = _HEADER
        if profile:
            header = (*header, "Time\n(us)", "Peak\n(%)")
            footer = (*footer, f"{1e6 * sum(seconds):.1f}", "")
            shares = self._engine.shares(seconds)
            rows = [
                (*row, f"{1e6 * time:.1f}", "-" if share is None else f"{100 * share:.0f}")
                for row, time, share in zip(rows, seconds, shares, strict=True)
            ]
        return Table("packed model", header, rows, footer)

    def _row(self, place: int, kernel: str) -> tuple[str, ...]:
        node = self.graph.nodes[place]
        return (
            node.name,
            node.operation.name,
            ", ".join(_bits(self._values[i]) for i in node.inputs),
            str(node.operation.weight_bits or "-"),
            " x ".join(map(str, self._values[place + len(self.graph.inputs)].shape)),
            str(_size(node.operation)),
            kernel,
        )


def _checked(argument: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """An input as an array, of real numbers and of this shape behind its first axis."""
    try:
        array = np.asarray(argument)
    except ValueError as error:  # rows of several lengths
        raise ArgumentError(f"predict takes arrays: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise ArgumentError(
            f"predict takes real numbers, found {array.dtype}. Write for example "
            "x.astype('float32')."
        )
    if array.shape[1:] != shape or not array.ndim:
        expected = ", ".join(map(str, ("batch", *shape)))
        raise ArgumentError(
            f"predict takes an array of shape ({expected}), found {array.shape}."
        )
    return array


def _bits(value: Value) -> str:
    return "32" if value.span is None else str(value.span.bits)


def _size(operation: Any) -> int:
    """The bytes of the tensors of an operation."""
    parts = (getattr(operation, field.name) for field in attrs.fields(type(operation)))
    arrays = (part.data if isinstance(part, PackedTensor) else part for part in parts)
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
