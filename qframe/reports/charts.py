"""Histograms as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.reports.markup import Element, as_picture, element
from qframe.reports.weights import Histogram

_WIDTH, _HEIGHT, _FOOT = 300.0, 96.0, 16.0


def histogram_picture(histogram: Histogram, label: str) -> Element:
    """An area before quantization, bars after it, each as high as the picture.

    Heights are the roots of counts, so that rare values are visible.
    """
    edges, bins = histogram.edges, len(histogram.before)
    step = _WIDTH / bins
    before, after = _heights(histogram.before), _heights(histogram.after)
    outline = [f"M0 {_HEIGHT}"]
    for index, height in enumerate(before):
        outline.append(f"V{_HEIGHT - height:.1f}H{(index + 1) * step:.2f}")
    bars = [
        element(
            "rect",
            x=f"{(index + 0.25) * step:.2f}",
            y=f"{_HEIGHT - height:.1f}",
            width=f"{step / 2:.2f}",
            height=f"{height:.1f}",
        )
        for index, height in enumerate(after)
        if height
    ]
    ends = [
        element("text", f"{edge:.3g}", x=x, y=_HEIGHT + 12, text_anchor=anchor)
        for edge, x, anchor in (
            (edges[0], 0, "start"),
            (edges[-1], _WIDTH, "end"),
        )
    ]
    return as_picture(
        _WIDTH,
        _HEIGHT + _FOOT,
        f"histogram of {label} before and after quantization",
        element("path", d="".join([*outline, f"V{_HEIGHT}Z"]), class_="before"),
        element("g", *bars, class_="after"),
        element("path", d=f"M0 {_HEIGHT}H{_WIDTH}", class_="axis"),
        *ends,
    )


def _heights(counts: NDArray[np.int64]) -> Any:
    return (_HEIGHT - 4) * np.sqrt(counts / max(int(counts.max()), 1))
