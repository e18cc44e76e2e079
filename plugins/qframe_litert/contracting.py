"""Products of two tensors, neither of which is a weight."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert.epilogues import Epilogue
from qframe_litert.model import Options, Quantization, Tensor
from qframe_litert.writer import Writer, Written


def matmul(writer: Writer, fused: Fused, x: Written, y: Written, value: Value) -> Written:
    """Write products of matrices."""
    operation: Any = fused.operation
    x = _scaled(writer, x, operation.scale)
    epilogue = Epilogue.of(writer, fused.activation, value, fuses=False)
    options, inputs = Options("BatchMatMulOptions"), (x.index, y.index)
    out = writer.emit("BATCH_MATMUL", inputs, value, options)
    return epilogue.finish(writer, out)


def _scaled(writer: Writer, x: Written, scale: float) -> Written:
    """The same integers on a grid of other steps: a product with a constant 1."""
    if scale == 1:
        return x
    if not np.float32(scale) > 0:
        raise QFrameError(
            f"it multiplies by {scale:g}, and the runtime by positive numbers. Negate what "
            "reads it"
        )
    grid = attrs.evolve(x.grid, scale=float(x.grid.scale) * scale)
    dtype = writer.settings.activations
    one = np.ones(1, dtype)
    tensor = Tensor(
        f"{writer.name}/scale", one.shape, dtype, Quantization(np.float32(scale)), one
    )
    inputs = x.index, writer.model.add_tensor(tensor)
    return writer.emit("MUL", inputs, Value(x.shape, grid), Options("MulOptions"))
