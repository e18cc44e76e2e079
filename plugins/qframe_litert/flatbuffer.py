"""The bytes of a LiteRT file: a flatbuffer of the schema of TensorFlow Lite, version 3."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

from qframe_litert.model import LiteModel, Operator, Tensor

Array = NDArray[Any]
_VERSION, _IDENTIFIER = 3, b"TFL3"
# Kernels read weights in whole registers, and some processors only at such addresses.
_ALIGNMENT = 16
# Readers of old files look for the code of an operator in a byte.
_LARGEST_OLD_CODE = 127


class _Encoder:
    """Writes tables, strings and vectors, and constants with the same bytes once."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(2**16)
        # The first buffer is that of tensors without one.
        self.buffers = [self.table("Buffer")]
        self._known: dict[bytes, int] = {}

    def table(self, name: str, **fields: Any) -> int:
        """Write a table; fields that are None are left out."""
        getattr(tflite, f"{name}Start")(self.builder)
        for field, value in fields.items():
            if value is not None:
                getattr(tflite, f"{name}Add{field}")(self.builder, value)
        return getattr(tflite, f"{name}End")(self.builder)

    def numbers(self, numbers: Any, dtype: Any = np.int32) -> int:
        """Write a vector of numbers."""
        return self.builder.CreateNumpyVector(np.asarray(numbers, dtype).reshape(-1))

    def offsets(self, offsets: list[int]) -> int:
        """Write a vector of tables."""
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def buffer(self, data: Array | None) -> int:
        """Write the bytes of a constant; returns the index of its buffer."""
        if data is None:
            return 0
        content = np.ascontiguousarray(data).tobytes()
        if content not in self._known:
            self._known[content] = len(self.buffers)
            self.buffers.append(self.table("Buffer", Data=self._aligned(content)))
        return self._known[content]

    def _aligned(self, content: bytes) -> int:
        builder = self.builder
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head = builder.Head() - len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        return builder.EndVector()

    def tensor(self, tensor: Tensor) -> int:
        """Write a tensor."""
        quantization = None
        if tensor.quantization is not None:
            scales = np.atleast_1d(np.asarray(tensor.quantization.scale, np.float32))
            zeros = np.full(len(scales), tensor.quantization.zero_point)
            scale, zero = self.numbers(scales, np.float32), self.numbers(zeros, np.int64)
            quantization = self.table(
                "QuantizationParameters",
                Scale=scale,
                ZeroPoint=zero,
                QuantizedDimension=tensor.quantization.axis if len(scales) > 1 else None,
            )
        signature = None
        if None in tensor.shape:
            signature = self.numbers([-1 if n is None else n for n in tensor.shape])
        shape = self.numbers([1 if n is None else n for n in tensor.shape])
        return self.table(
            "Tensor",
            Name=self.builder.CreateString(tensor.name),
            Shape=shape,
            ShapeSignature=signature,
            Type=getattr(tflite.TensorType, tensor.dtype.upper()),
            Buffer=self.buffer(tensor.data),
            Quantization=quantization,
        )

    def operator(self, operator: Operator, code: int) -> int:
        """Write an operator; `code` is the index of its code and version."""
        options, kind = None, None
        if operator.options is not None:
            options = self.table(operator.options.table, **operator.options.fields)
            kind = getattr(tflite.BuiltinOptions, operator.options.table)
        inputs, outputs = self.numbers(operator.inputs), self.numbers(operator.outputs)
        return self.table(
            "Operator",
            OpcodeIndex=code,
            Inputs=inputs,
            Outputs=outputs,
            BuiltinOptionsType=kind,
            BuiltinOptions=options,
        )


def encode(model: LiteModel, description: str) -> bytes:
    """The content of a file; the same model always has the same bytes.

    Args:
        model: the tensors and operators.
        description: the text that tools show.
    """
    encoder = _Encoder()
    codes = list(dict.fromkeys((op.code, op.version) for op in model.operators))
    tensors = encoder.offsets([encoder.tensor(tensor) for tensor in model.tensors])
    operators = encoder.offsets(
        [encoder.operator(op, codes.index((op.code, op.version))) for op in model.operators]
    )
    inputs, outputs = encoder.numbers(model.inputs), encoder.numbers(model.outputs)
    graph = encoder.table(
        "SubGraph", Tensors=tensors, Inputs=inputs, Outputs=outputs, Operators=operators
    )
    graphs = encoder.offsets([graph])
    numbers = [(getattr(tflite.BuiltinOperator, name), version) for name, version in codes]
    tables = [
        encoder.table(
            "OperatorCode",
            DeprecatedBuiltinCode=min(number, _LARGEST_OLD_CODE),
            BuiltinCode=number,
            Version=version,
        )
        for number, version in numbers
    ]
    root = encoder.table(
        "Model",
        Version=_VERSION,
        OperatorCodes=encoder.offsets(tables),
        Subgraphs=graphs,
        Description=encoder.builder.CreateString(description),
        Buffers=encoder.offsets(encoder.buffers),
    )
    encoder.builder.Finish(root, _IDENTIFIER)
    return bytes(encoder.builder.Output())
