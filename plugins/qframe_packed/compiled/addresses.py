"""Typed access to memory by address.

An index into an array may be negative, so numba tests each one, and LLVM then does not
vectorize the loop. Arrays are also costly arguments.
"""

from __future__ import annotations

from typing import Any

import numba
from numba import types
from numba.extending import intrinsic


def _view(kind: Any) -> Any:
    """Build the intrinsic that makes an address a value of this type."""

    def view(typing: Any, address: Any) -> Any:
        def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            return b.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.intp), codegen

    return intrinsic(view)


bytes_at = _view(types.CPointer(types.uint8))
words_at = _view(types.CPointer(types.uint32))
integers_at = _view(types.CPointer(types.int64))
floats_at = _view(types.CPointer(types.float32))


def record_view(dtype: Any) -> Any:
    """Build the intrinsic that makes an address a record, whose fields are attributes."""
    return _view(numba.from_dtype(dtype))
