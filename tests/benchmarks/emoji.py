"""Trained networks and pictures of emoji, and how often quantized ones are right.

They are files in the folder that the variable ``QFRAME_EMOJI`` names: ``emoji32.npz`` with
xt, yt to calibrate and xe, ye to test, and ``emoji_float0.keras`` to
``emoji_float2.keras``.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from benchmarks.timing import show

NETWORKS, PICTURES = range(3), 256


class Setting(NamedTuple):
    """The weights of every layer but the first and last, which have 8 bits."""

    bits: int
    granularity: str


# Activations have 8 bits in each, from their smallest to their largest by tensor.
SETTINGS = {
    "W3 by channel, A8": Setting(3, "channel"),
    "W4 by tensor, A8": Setting(4, "tensor"),
    "W4 by channel, A8": Setting(4, "channel"),
    "W8 by channel, A8": Setting(8, "channel"),
}


class Pictures(NamedTuple):
    """Those to calibrate with, without labels, and those to test with."""

    calibration: np.ndarray
    tests: np.ndarray
    labels: np.ndarray

    def accuracy(self, outputs: np.ndarray) -> float:
        """The share of tests whose largest output is that of the label."""
        return float(np.mean(outputs.argmax(-1) == self.labels))


def folder() -> Path:
    """Where the files are; the test that asks is skipped where nobody has said it."""
    name = os.environ.get("QFRAME_EMOJI", "")
    if not name:
        pytest.skip("QFRAME_EMOJI names no folder with the networks and pictures")
    return Path(name)


def network(number: int) -> keras.Model:
    """A network in float, of which batch normalization is folded."""
    return keras.models.load_model(folder() / f"emoji_float{number}.keras")


def pictures(number: int) -> Pictures:
    """The pictures for a network: each has others to calibrate with."""
    with np.load(folder() / "emoji32.npz") as arrays:
        x, tests = ((arrays[n].astype("float32") - 128) / 64 for n in ("xt", "xe"))
        labels = arrays["ye"]
    chosen = np.random.default_rng(number).permutation(len(x))[:PICTURES]
    return Pictures(x[chosen], tests, labels)


def show_accuracies(
    title: str, ways: Iterable[str], measure: Callable[[int], Mapping[str, float]]
) -> None:
    """Print the accuracy of each network in each way, and the means.

    Args:
        title: what was quantized, by whom.
        ways: their names, in the order of the rows.
        measure: takes the number of a network, returns its accuracy by way.
    """
    found = [measure(number) for number in NETWORKS]
    rows = []
    for way in ways:
        values = [each[way] for each in found]
        cells = [*values, sum(values) / len(values)]
        rows.append([way, *(f"{100 * cell:.1f}" for cell in cells)])
    show(title, ["% right", *(f"network {number}" for number in NETWORKS), "mean"], rows)
