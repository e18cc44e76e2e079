"""Memory by its address: what kernels read and write.

An index into an array might be negative, which would be asked for each number, and keeps
LLVM from taking several at once; and an array is costly to hand over.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


def _viewed(kind: Any) -> Any:
    def view(typing: Any, address: Any) -> Any:
        def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            return b.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.intp), codegen

    return view


bytes_at = intrinsic(_viewed(types.uint8))
words_at = intrinsic(_viewed(types.uint32))
integers_at = intrinsic(_viewed(types.int64))
floats_at = intrinsic(_viewed(types.float32))
