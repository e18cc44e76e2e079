"""The operations of a graph: their fields, and the shapes and grids of their results.

A new one needs a class in a module here, a function in `qframe.deployment.graph.reference`,
a function in `qframe.deployment.lowering`, and a line in the table of each target.
"""

from __future__ import annotations

from qframe.deployment.graph.operations.base import Operation
from qframe.deployment.graph.operations.contracting import Matmul
from qframe.deployment.graph.operations.elementwise import (
    FUNCTIONS,
    Activation,
    Affine,
    Merge,
    PReLU,
)
from qframe.deployment.graph.operations.levels import Dequantize, Quantize, Round
from qframe.deployment.graph.operations.normalizing import Normalize
from qframe.deployment.graph.operations.pooling import (
    AveragePool,
    GlobalPool,
    MaxPool,
    Resize,
)
from qframe.deployment.graph.operations.products import (
    Conv2D,
    Conv2DTranspose,
    Dense,
    Lookup,
)
from qframe.deployment.graph.operations.recurring import Recurrence
from qframe.deployment.graph.operations.shaping import (
    Concatenate,
    Pad,
    Repeat,
    Reshape,
    Slice,
    Transpose,
)

__all__ = [
    "FUNCTIONS",
    "Activation",
    "Affine",
    "AveragePool",
    "Concatenate",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "Dequantize",
    "GlobalPool",
    "Lookup",
    "Matmul",
    "MaxPool",
    "Merge",
    "Normalize",
    "Operation",
    "PReLU",
    "Pad",
    "Quantize",
    "Recurrence",
    "Repeat",
    "Reshape",
    "Resize",
    "Round",
    "Slice",
    "Transpose",
]
