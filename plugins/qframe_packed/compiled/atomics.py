"""Memory that threads share: atomic reads and changes, and waiting, in compiled code."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qframe_packed.compiled.processor import IS_ARM, TARGET
from qframe_packed.compiled.vectors import at, declared, emitter

_I32, _I64 = ir.IntType(32), ir.IntType(64)
# A wait begins with pauses, which keep the core, for a few microseconds. It goes on with
# offers of the core to other threads, which return at once if none needs it, for some 50.
# Then it sleeps: a wait that only spins takes a core from the thread that it waits for.
_PAUSES = 100
_OFFERS = 100


@intrinsic
def read(typing: Any, address: Any) -> Any:
    """The number at an address, and all that was written before it."""

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.load_atomic(at(b, arguments[0], 0, _I64), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def add(typing: Any, address: Any, number: Any) -> Any:
    """Add to the number at an address, after all writes before; return the one before."""

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        place, number = arguments
        return b.atomic_rmw("add", at(b, place, 0, _I64), number, "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def replace(typing: Any, address: Any, before: Any, after: Any) -> Any:
    """Replace the number at an address if it is `before`; return whether it was."""

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        place, *numbers = arguments
        place = at(b, place, 0, _I64)
        return b.extract_value(b.cmpxchg(place, *numbers, "acq_rel", "acquire"), 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


def emit_pause(b: Any) -> None:
    """Emit what takes some nanoseconds, and leaves the core to its other thread."""
    if IS_ARM:
        name, arguments = "llvm.aarch64.isb", [ir.Constant(_I32, 15)]
    elif TARGET[0].startswith(("x86", "i386", "i686")):
        name, arguments = "llvm.x86.sse2.pause", []
    else:
        return
    kinds = [argument.type for argument in arguments]
    b.call(declared(b, name, ir.VoidType(), kinds), arguments)


_pause = emitter(emit_pause)


@emitter
def _call(b: Any, code: Any, argument: Any) -> None:
    """Call a C function at an address; one without an argument ignores it."""
    kind = ir.FunctionType(_I32, [_I32])
    b.call(b.inttoptr(code, kind.as_pointer()), [b.trunc(argument, _I32)])


@numba.njit
def wait(address: int, least: int, waiting: int, sleeps: int) -> bool:
    """Wait until the number at an address is at least `least`; return whether it is.

    Args:
        address: of an int64.
        least: the number.
        waiting: the address of what `functions` returns.
        sleeps: how often to sleep before giving up.
    """
    offer, sleep, time = read(waiting), read(waiting + 8), read(waiting + 16)
    for turn in range(_PAUSES + _OFFERS + sleeps):
        if read(address) >= least:
            return True
        if turn < _PAUSES:
            _pause()
        elif turn < _PAUSES + _OFFERS:
            _call(offer, 0)
        else:
            _call(sleep, time)
    return read(address) >= least


def functions() -> tuple[int, int, int]:
    """The addresses of the functions that offer the core and that sleep, and how long.

    They are of the system, so that a wait needs neither the GIL nor memory.
    """
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        return _address(kernel.SwitchToThread), _address(kernel.Sleep), 1
    system = ctypes.CDLL(None)
    return _address(system.sched_yield), _address(system.usleep), 50


def _address(function: Callable[..., Any]) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
