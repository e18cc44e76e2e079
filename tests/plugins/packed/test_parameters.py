"""Declared kernels: their records, the functions that run them, and tables of them."""

from __future__ import annotations

import importlib
import struct
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numba
import numpy as np
import pytest
from numba.core.caching import FunctionCache

import qframe_packed.compiled as package
from qframe_packed.compiled import parameters
from qframe_packed.compiled.addresses import floats_at
from qframe_packed.compiled.functions import Function, function
from qframe_packed.compiled.memory import Buffer, Memory
from qframe_packed.compiled.parameters import Address, Parameters, define
from qframe_packed.compiled.program import Program

pytestmark = pytest.mark.pure


@attrs.frozen(eq=False)
class Fill(Parameters):
    value: float
    out: Address
    count: int

    @property
    def parts(self) -> int:
        return self.count

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        out = floats_at(p.out)
        for i in range(begin, end):
            out[i] = p.value


@attrs.frozen(eq=False)
class Multiply(Parameters):
    count: int
    out: Address
    factors: Address
    inverse: bool

    @property
    def parts(self) -> int:
        return self.count

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        out, factors = floats_at(p.out), floats_at(p.factors)
        for i in range(begin, end):
            if p.inverse:
                out[i] /= factors[i]
            else:
                out[i] *= factors[i]


def test_a_table_runs_kernels_in_order_with_their_fields():
    one, two = Buffer(12), Buffer(12)
    memory = Memory({one: 0, two: 64}, 128, samples=2)
    factors = np.arange(1, 7, dtype=np.float32)
    kernels = [
        Fill(0.1, one, 3),
        Fill(-3, two, 3),
        Multiply(3, one, factors, False),
        Multiply(3, two, factors, True),
        Multiply(2, two, factors, True),
    ]
    Program(memory, kernels)(2)
    product = np.float32(0.1) * factors
    np.testing.assert_array_equal(memory.array(one, np.float32), product)
    quotient = np.float32(-3) / factors
    quotient[:4] /= factors[:4]
    np.testing.assert_array_equal(memory.array(two, np.float32), quotient)
    Program(memory, [])(2)
    assert kernels[2].buffers() == [one]
    assert kernels[2].functions() == kernels[3].functions() != kernels[0].functions()


def test_records_are_as_long_in_python_as_in_compiled_code():
    folder = Path(package.__file__).parent
    for path in folder.glob("[a-z]*.py"):
        importlib.import_module(f"{package.__name__}.{path.stem}")
    declared = [
        kind
        for kind in Parameters.__subclasses__()
        if kind.__module__.startswith(package.__name__)
    ]
    assert len(declared) > 10
    for kind in declared:
        assert define(kind).itemsize == kind.layout.size


def test_a_record_counts_as_defined_once_it_is_complete(monkeypatch):
    """Another thread that finds its dtype reads its layout too."""

    class Late(Fill):
        pass

    def layout(codes):
        assert "dtype" not in vars(Late)
        return struct.Struct(codes)

    monkeypatch.setattr(parameters, "struct", SimpleNamespace(Struct=layout))
    assert define(Late).itemsize == Late.layout.size


def test_two_functions_of_one_name_are_refused():
    """One would be loaded from the cache in the place of the other."""

    def make():
        return numba.njit(lambda p: None)

    body = make()
    assert function(body, numba.int64) is function(body, numba.int64)
    with pytest.raises(ValueError, match="two functions are called 'test_parameters"):
        function(make(), numba.int64)


def _nothing(number):
    pass


NOTHING = numba.njit(_nothing)


def test_threads_compile_a_function_once():
    start, found = threading.Barrier(8), []
    shared = Function(NOTHING, (numba.int64,))

    def use():
        start.wait()
        found.append(shared.compiled)

    workers = [threading.Thread(target=use) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({id(compiled) for compiled in found}) == 1
    assert shared.address == found[0].address


@pytest.mark.parametrize(
    ("method", "error"),
    [("__init__", RuntimeError("no locator")), ("save_overload", OSError("disk is full"))],
)
def test_a_cache_that_cannot_be_written_is_said_and_not_needed(monkeypatch, method, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(FunctionCache, method, fail)
    monkeypatch.setattr(FunctionCache, "load_overload", lambda *arguments: None)
    alone = Function(NOTHING, (numba.int64,))
    with pytest.warns(UserWarning, match=f"{error}.*NUMBA_CACHE_DIR"):
        assert alone.address
