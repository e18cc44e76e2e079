"""LiteRT files as a reader of the schema sees them, and as the runtime runs them."""

import attrs
import numpy as np
import tflite

DTYPES = {
    getattr(tflite.TensorType, name.upper()): name
    for name in ("bool", "float32", "int4", "int8", "int16", "int32", "int64", "uint8")
}
_CODES = {
    number: name
    for name, number in vars(tflite.BuiltinOperator).items()
    if isinstance(number, int)
}
_OPTIONS = {
    number: name
    for name, number in vars(tflite.BuiltinOptions).items()
    if isinstance(number, int)
}
# Fields of options that are not numbers, and what accessors inherit.
_OTHER = ("GetRootAs", "Init", "NewShape", "BufferHasIdentifier")


@attrs.frozen(eq=False)
class Tensor:
    """A tensor: its `zero` is the zero point, its `data` those of a constant."""

    name: str
    shape: tuple
    signature: tuple
    dtype: str
    buffer: int
    scale: np.ndarray | None
    zero: int
    axis: int
    data: np.ndarray | None

    @property
    def ends(self):
        """The smallest and the largest integer of its type."""
        info = np.iinfo(self.dtype)
        return info.min, info.max


@attrs.frozen(eq=False)
class Operator:
    code: str
    version: int
    inputs: tuple
    outputs: tuple
    table: str
    options: dict


@attrs.frozen(eq=False)
class File:
    """The only subgraph of a file, and its buffers as (position in the file, size)."""

    tensors: list
    operators: list
    inputs: list
    outputs: list
    buffers: list

    @property
    def codes(self):
        """The names of its operators, in order."""
        return [operator.code for operator in self.operators]


def read(content):
    """The file of these bytes."""
    assert tflite.Model.ModelBufferHasIdentifier(content, 0)
    model = tflite.Model.GetRootAs(content, 0)
    assert model.Version() == 3
    assert model.SubgraphsLength() == 1
    graph = model.Subgraphs(0)
    operators = [
        _operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength())
    ]
    tensors = [_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength())]
    buffers = [_place(model.Buffers(i)) for i in range(model.BuffersLength())]
    inputs, outputs = graph.InputsAsNumpy(), graph.OutputsAsNumpy()
    return File(tensors, operators, list(inputs), list(outputs), buffers)


def _place(buffer):
    size = buffer.DataLength()
    start = buffer._tab.Vector(buffer._tab.Offset(4)) if size else 0
    return start, size


def _numbers(array):
    return () if isinstance(array, int) else tuple(array.tolist())


def _tensor(model, tensor):
    dtype = DTYPES[tensor.Type()]
    shape = _numbers(tensor.ShapeAsNumpy())
    quantization = tensor.Quantization()
    scale, zero, axis = None, 0, 0
    if quantization is not None and quantization.ScaleLength():
        scale = quantization.ScaleAsNumpy().astype(np.float32)
        zeros, axis = quantization.ZeroPointAsNumpy(), quantization.QuantizedDimension()
        assert len(zeros) == len(scale)
        assert (zeros == zeros[0]).all()
        zero = int(zeros[0])
    buffer = model.Buffers(tensor.Buffer())
    data = None
    if buffer.DataLength():
        data = _data(buffer.DataAsNumpy(), dtype, shape)
    name = tensor.Name().decode()
    signature = _numbers(tensor.ShapeSignatureAsNumpy()) or shape
    return Tensor(name, shape, signature, dtype, tensor.Buffer(), scale, zero, axis, data)


def _data(content, dtype, shape):
    if dtype != "int4":
        return content.view(dtype).reshape(shape)
    # Two in a byte, the first one in the lower half.
    halves = np.stack([content & 15, content >> 4], axis=-1).reshape(-1)
    integers = (halves.astype(np.int8) ^ 8) - 8
    return integers[: int(np.prod(shape))].reshape(shape)


def _operator(model, operator):
    code = model.OperatorCodes(operator.OpcodeIndex())
    name = _OPTIONS[operator.BuiltinOptionsType()]
    options = {}
    if name != "NONE":
        table = getattr(tflite, name)()
        source = operator.BuiltinOptions()
        table.Init(source.Bytes, source.Pos)
        for field in dir(table):
            listed = field.endswith(("AsNumpy", "Length", "IsNone"))
            if field[0] != "_" and field not in _OTHER and not listed:
                if hasattr(table, f"{field}Length") or name in field:
                    continue
                options[field] = getattr(table, field)()
    inputs, outputs = operator.InputsAsNumpy(), operator.OutputsAsNumpy()
    return Operator(
        *(_CODES[code.BuiltinCode()], code.Version()),
        *(_numbers(inputs), _numbers(outputs), name, options),
    )


XNNPACK, BUILTIN, REFERENCE = "AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"


def interpret(content, inputs, kernels=XNNPACK, before=None):
    """What the runtime returns for these inputs, whose batch it takes.

    Args:
        content: the bytes of a file.
        inputs: integers, one array for each input.
        kernels: `XNNPACK`, `BUILTIN` or `REFERENCE`.
        before: inputs of the same shapes, of a run before that one. Default None.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=getattr(OpResolverType, kernels),
        num_threads=1,
    )
    details = interpreter.get_input_details()
    for detail, x in zip(details, inputs, strict=True):
        if tuple(detail["shape"]) != x.shape:
            interpreter.resize_tensor_input(detail["index"], x.shape)
    interpreter.allocate_tensors()
    for arrays in (inputs,) if before is None else (before, inputs):
        for detail, x in zip(details, arrays, strict=True):
            interpreter.set_tensor(detail["index"], x.astype(detail["dtype"]))
        interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
