"""The share of the processor's peak: what counts as a product, and how often it is made."""

import threading
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pytest

from packed_checks import conv, halves, integers, levels
from packed_graphs import chain, sign
from qframe.deployment.graph import operations as op
from qframe_packed.compiled import depthwise, depthwise_codes, gemm, peaks
from qframe_packed.compiled.engine import Engine
from qframe_packed.compiled.tiles import BITS, CODES, FLOATS, PACKED

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("kind", [BITS, CODES, *PACKED, FLOATS], ids=lambda k: k.name)
def test_a_peak_is_measured_once(kind):
    found = peaks.peak_of(kind)
    # A register of products in each cycle of a second, or in a thousand of them.
    assert 1e6 < found / kind.products < 1e11
    assert peaks.peak_of(kind) == found


class Noted:
    """A lock that says when the second thread asks for it."""

    def __init__(self):
        self.lock, self.threads, self.asked = threading.Lock(), set(), threading.Event()

    def note(self):
        self.threads.add(threading.get_ident())
        if len(self.threads) == 2:
            self.asked.set()

    def __enter__(self):
        self.note()
        self.lock.acquire()

    def __exit__(self, *error):
        self.lock.release()


def test_threads_measure_a_peak_once(monkeypatch):
    """The second one waits where the first one makes the function, and gets its number."""
    noted, others = Noted(), []

    class Slow(type(FLOATS)):
        @property
        def name(self):
            noted.note()
            if not others:
                others.append(pool.submit(peaks.peak_of, self))
                noted.asked.wait()
            return "slow"

    monkeypatch.setattr(peaks, "_LOCK", noted)
    with ThreadPoolExecutor(1) as pool:
        found = peaks.peak_of(Slow(*attrs.astuple(FLOATS, recurse=False)))
        assert others[0].result() == found


# For an image of 4x5 pixels with 70 channels: the operations, and the products of the last.
CASES = {
    "float": ((conv(halves(3, 3, 3, 70)),), "floats", 2 * 3 * 3 * 9 * 70),
    "binary": ((sign(), conv(integers(3, 3, 3, 70))), "bits", 2 * 3 * 3 * 9 * 70),
    "planes": (
        (levels(4), conv(integers(9, 1, 1, 70))),
        "bits",
        # Two planes of bits of the image.
        2 * (4 * 5 * 9 * 70),
    ),
    "codes": (
        (levels(200), op.Dense(kernel=integers(9, 70, of=range(-99, 99)))),
        "codes",
        4 * 5 * 9 * 70,
    ),
    "groups": ((conv(halves(4, 2, 2, 35), groups=2),), "floats", 3 * 4 * 4 * 4 * 35),
    "depthwise codes": (
        (levels(200), conv(integers(70, 3, 3, 1, of=range(-99, 99)), groups=70)),
        "codes",
        2 * 3 * 70 * 9,
    ),
    "depthwise": ((conv(halves(70, 3, 3, 1), groups=70),), "floats", 2 * 3 * 70 * 9),
}


@pytest.mark.parametrize("case", CASES)
def test_shares(case, monkeypatch):
    steps, kind, products = CASES[case]
    # A second has so many products, a different number for each kind.
    made = {BITS: 1e6, CODES: 1e5, FLOATS: 1e4}
    for module in (gemm, depthwise, depthwise_codes):
        monkeypatch.setattr(module, "peak_of", made.__getitem__)
    engine = Engine(chain((4, 5, 70), *steps))
    *others, share = engine.shares([2.0] * len(steps))
    assert others == [None] * len(others)
    peak = {"bits": 1e6, "codes": 1e5, "floats": 1e4}[kind]
    assert share == pytest.approx(products / 2 / peak)


def test_what_numpy_multiplies_has_no_share():
    wide = integers(4, 5, of=np.arange(-20, 20) * 9000 + 1)
    engine = Engine(chain((3, 5), levels(200), op.Dense(kernel=wide)))
    assert "float" not in engine.kernels[-1]
    assert engine.shares([1.0, 1.0]) == [None, None]


def test_products_that_a_pool_drops_do_not_count(monkeypatch):
    monkeypatch.setattr(gemm, "peak_of", {CODES: 1e5}.__getitem__)
    weights = integers(9, 1, 1, 70, of=range(-99, 99))
    engine = Engine(chain((4, 5, 70), levels(200), conv(weights), op.MaxPool()))
    # The last column is in no window.
    assert engine.shares([2.0] * 3) == [None, pytest.approx(4 * 4 * 9 * 70 / 2e5), None]
