"""Declared kernels: their records, and the functions that dispatch to them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import attrs
import numba
import numpy as np
import pytest

import qframe_packed.compiled as package
from qframe_packed.compiled.addresses import floats_at
from qframe_packed.compiled.epilogue import STAGES
from qframe_packed.compiled.memory import Buffer, Memory
from qframe_packed.compiled.parameters import Address, Parameters, dispatch, table
from qframe_packed.compiled.scheduling import KERNELS

pytestmark = pytest.mark.pure


@attrs.frozen(eq=False)
class Fill(Parameters):
    value: float
    out: Address
    count: int

    @staticmethod
    @numba.njit
    def run(samples: int, p: Any) -> None:
        out = floats_at(p.out)
        for i in range(samples * p.count):
            out[i] = p.value


@attrs.frozen(eq=False)
class Multiply(Parameters):
    count: int
    out: Address
    factors: Address
    inverse: bool

    @staticmethod
    @numba.njit
    def run(samples: int, p: Any) -> None:
        out, factors = floats_at(p.out), floats_at(p.factors)
        for i in range(samples * p.count):
            if p.inverse:
                out[i] /= factors[i]
            else:
                out[i] *= factors[i]


def test_a_table_runs_kernels_in_order_with_their_fields():
    run = numba.njit(dispatch("samples", (Multiply, Fill)))
    assert (Multiply.code, Fill.code) == (0, 1)
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
    run(2, table(kernels, memory), len(kernels))
    product = np.float32(0.1) * factors
    np.testing.assert_array_equal(memory.array(one, np.float32), product)
    quotient = np.float32(-3) / factors
    quotient[:4] /= factors[:4]
    np.testing.assert_array_equal(memory.array(two, np.float32), quotient)
    run(2, table([], memory), 0)
    assert kernels[2].buffers() == [one]


def test_every_kernel_of_the_package_is_listed():
    folder = Path(package.__file__).parent
    for path in folder.glob("[a-z]*.py"):
        importlib.import_module(f"{package.__name__}.{path.stem}")
    declared = {
        kind
        for kind in Parameters.__subclasses__()
        if kind.__module__.startswith(package.__name__)
        and getattr(importlib.import_module(kind.__module__), kind.__name__) is kind
    }
    assert {*KERNELS, *STAGES} == declared
    for kinds in (KERNELS, STAGES):
        assert [kind.code for kind in kinds] == [*range(len(kinds))]
        for kind in kinds:
            assert kind.layout.size == kind.dtype.itemsize


def test_a_kernel_that_is_not_listed_is_in_no_table():
    @attrs.frozen(eq=False)
    class Unlisted(Parameters):
        count: int

    with pytest.raises(AttributeError, match="layout"):
        table([Unlisted(1)], Memory({}, 0, samples=1))
