"""Run LiteRT files with ai-edge-litert, without Keras.

Example:
    >>> import qframe as qf
    >>> runtime = qf.litert.load("m.tflite")  # doctest: +SKIP
    >>> probabilities = runtime.predict(images)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.arrays import check_arrays
from qframe.deployment.graph.edges import Edge
from qframe.errors import ArgumentError, DataError, PluginError
from qframe.paths import AnyPath, existing_file

__all__ = ["Runtime", "load"]

Array = NDArray[Any]
_SUFFIX, _IDENTIFIER = ".tflite", b"TFL3"
# What computes: the kernels of XNNPACK where it has them, or the built-in ones alone.
_RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}


def load(path: AnyPath, kernels: str = "xnnpack") -> Runtime:
    """Load a file that `qframe.export` wrote with the target ``litert``.

    Args:
        path: a ``.tflite`` file.
        kernels: ``"xnnpack"``, as phones and computers use them, or ``"builtin"``, which
            round as those of microcontrollers do. Default ``"xnnpack"``.

    Raises:
        ArgumentError: the kernels are unknown.
        DataError: the file does not exist, or is not one of LiteRT, or is damaged.
        PluginError: ai-edge-litert is not installed.

    Example:
        >>> import qframe as qf
        >>> runtime = qf.litert.load("m.tflite")  # doctest: +SKIP
    """
    if not isinstance(kernels, str) or kernels not in _RESOLVERS:
        raise ArgumentError(
            f"the kernels are xnnpack and builtin, found {kernels!r}. Write for example "
            "qframe.litert.load(path, kernels='builtin')."
        )
    content = existing_file(path, _SUFFIX).read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise DataError(f"{path} is not a LiteRT file: its bytes 4 to 7 are not TFL3.")
    try:
        return Runtime(content, kernels)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be run: {error}. Export it again.") from error


@attrs.define(eq=False)
class Runtime:
    """A LiteRT model, ready to predict; threads may share it."""

    content: bytes
    kernels: str = "xnnpack"
    _interpreter: Any = attrs.field(init=False)
    # One whose outputs are all tensors, once it is needed.
    _whole: Runtime | None = attrs.field(init=False, default=None)
    _lock: Any = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        try:
            module = importlib.import_module("ai_edge_litert.interpreter")
        except ImportError as error:
            raise PluginError(
                "LiteRT files are run by ai-edge-litert, which cannot be imported "
                f"({error}). Write: pip install ai-edge-litert"
            ) from error
        resolver = getattr(module.OpResolverType, _RESOLVERS[self.kernels])
        self._interpreter = module.Interpreter(
            model_content=self.content, experimental_op_resolver_type=resolver
        )
        self._interpreter.allocate_tensors()

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs, without the batch."""
        return _shapes(self._interpreter.get_input_details())

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the outputs, without the batch."""
        return _shapes(self._interpreter.get_output_details())

    def predict(self, x: Any) -> Any:
        """The outputs of the model, as real numbers.

        Args:
            x: an array of any real dtype, its first axis the batch, of any size: a file
                with a fixed one runs several times. A list of such arrays for a model with
                several inputs, in their order. Real numbers are rounded to the integers
                that the file takes.

        Returns:
            A float32 array, its first axis the batch; a list of them for a model with
            several outputs.

        Raises:
            ArgumentError: the arrays have other shapes, or are not of real numbers.
        """
        arrays = check_arrays(x, self.input_shapes)
        if not len(arrays[0]):  # XNNPACK refuses it, and others lose the shape
            outputs = [np.zeros((0, *shape), np.float32) for shape in self.output_shapes]
        else:
            outputs = [_real(edge) for _, edge in self._run(arrays)]
        return outputs if len(outputs) > 1 else outputs[0]

    def edges(self, x: Any) -> dict[str, Edge]:
        """The tensors between the operators, by the names that the file has for them.

        Args:
            x: as of `predict`; the tensors for the whole batch are in memory together.

        Returns:
            The integers of each tensor, counted from its zero point, with its scale. Those
            that are edges of the model have its names.

        Raises:
            ArgumentError: as `predict`.
        """
        if self._whole is None:
            self._whole = Runtime(with_all_outputs(self.content), self.kernels)
        arrays = check_arrays(x, self.input_shapes)
        if not len(arrays[0]):
            raise ArgumentError("edges takes one example or more, found none.")
        found = self._whole._run(arrays)
        # Indices of a table have no scale, and are no edge.
        return {
            name: edge
            for name, edge in found
            if edge.scale is not None or edge.values.dtype.kind == "f"
        }

    def _run(self, arrays: list[Array]) -> list[tuple[str, Edge]]:
        """The outputs of the file, with their names."""
        size = len(arrays[0])
        batch = self._batch or size
        parts = []
        with self._lock:
            for start in range(0, size, batch):
                part = [_of_size(array[start : start + batch], batch) for array in arrays]
                parts.append(self._invoke(part))
        if len(parts) == 1 and batch == size:
            return parts[0]
        return [
            _joined(same, size / (batch * len(parts))) for same in zip(*parts, strict=True)
        ]

    @property
    def _batch(self) -> int | None:
        """The size of the batches of the file; None for any."""
        details = self._interpreter.get_input_details()[0]
        return None if details["shape_signature"][0] == -1 else int(details["shape"][0])

    def _invoke(self, arrays: list[Array]) -> list[tuple[str, Edge]]:
        interpreter = self._interpreter
        self._resize(len(arrays[0]))
        inputs = interpreter.get_input_details()
        for details, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(details["index"], _integers(array, details))
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        tensors = [interpreter.get_tensor(details["index"]) for details in outputs]
        return [
            (details["name"], _edge(values, details))
            for details, values in zip(outputs, tensors, strict=True)
        ]

    def _resize(self, batch: int) -> None:
        inputs = self._interpreter.get_input_details()
        if all(details["shape"][0] == batch for details in inputs):
            return
        for details in inputs:
            shape = batch, *details["shape"][1:]
            self._interpreter.resize_tensor_input(details["index"], shape, strict=True)
        self._interpreter.allocate_tensors()


def _of_size(array: Array, batch: int) -> Array:
    """A batch filled up with its last sample."""
    missing = batch - len(array)
    return np.concatenate([array, *[array[-1:]] * missing]) if missing else array


def _joined(parts: Sequence[tuple[str, Edge]], share: float) -> tuple[str, Edge]:
    """The tensor of several batches, of whose rows this share is of samples."""
    name, edge = parts[0]
    values = np.concatenate([part.values for _, part in parts])
    return name, Edge(values[: round(share * len(values))], edge.scale)


def with_all_outputs(content: bytes) -> bytes:
    """The file with each tensor that an operator returns as an output."""
    flatbuffers = importlib.import_module("flatbuffers")
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    graph.outputs = [int(i) for operator in graph.operators for i in operator.outputs]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _shapes(details: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(size) for size in part["shape"][1:]) for part in details)


def _integers(x: Array, details: Any) -> Array:
    """The integers of real numbers; NaN becomes the smallest."""
    dtype, (scale, zero_point) = details["dtype"], details["quantization"]
    if not scale:
        return x.astype(dtype)
    ends = np.iinfo(dtype)
    steps = np.rint(x.astype(np.float32) / np.float32(scale)) + np.float32(zero_point)
    return np.minimum(np.fmax(steps, ends.min), ends.max).astype(dtype)


def _edge(values: Array, details: Any) -> Edge:
    """The integers of a tensor, counted from its zero point, with its scale."""
    scale, zero_point = details["quantization"]
    if not scale:
        return Edge(values)
    return Edge(values.astype(np.int32) - np.int32(zero_point), scale)


def _real(edge: Edge) -> Array:
    """The real numbers of a tensor."""
    values = edge.values.astype(np.float32)
    return values if edge.scale is None else values * np.float32(edge.scale)
