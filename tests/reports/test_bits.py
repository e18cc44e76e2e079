"""The sections of a report with losses by layer and bits, and with the best choices."""

import re

import numpy as np
import pytest

import qframe as qf
from in_few_bits import QUANTIZER, two_layers
from qframe.errors import ArgumentError

X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")


@pytest.fixture(scope="module")
def measured():
    model = two_layers()
    return model, qf.sensitivity(model, X, (2, 4, 8), quantizer=QUANTIZER, verbose=0)


def test_losses_are_bars_of_their_logarithms(measured):
    model, table = measured
    page = qf.report(model, sensitivity=table)
    assert page.to_dict()["sensitivity"] == table.to_dict()
    assert page.to_dict()["front"] is None
    assert "kl of 64 examples" in str(page)
    figure = re.search(r'aria-label="losses of one by bits".*?</svg>', page.html, re.DOTALL)
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="after"', figure[0])]
    logs = [np.log10(table["one"].losses[bits]) for bits in (2, 4, 8)]
    steps = np.diff(heights) / np.diff(logs)
    assert steps[0] == pytest.approx(steps[1], rel=0.01)
    assert heights == sorted(heights, reverse=True)


def test_front_is_a_line_of_its_points(measured):
    pytest.importorskip("scipy", reason="the extra ptq is not installed")
    model, table = measured
    front = qf.allocate(model, table)
    page = qf.report(model, front=front)
    assert page.to_dict()["front"] == front.to_dict()
    assert page.html.count("<circle") == len(front.points)


def test_notebooks_show_the_figures_of_a_report_beside_the_table(measured):
    """They need no style sheet: the colours are attributes."""
    model, table = measured
    shown = table._repr_html_()
    assert "<td" in shown
    page = qf.report(model, sensitivity=table).html
    pictures = re.findall(r"<svg .*?</svg>", shown, re.DOTALL)
    assert len(pictures) == len(table.measured)
    assert all(picture in page for picture in pictures)
    for mark in re.findall(r"<(?:rect|text|path|circle) [^>]*>", shown):
        assert re.search(r'(?:fill|stroke)="(?:currentColor|#\w{6})"', mark), mark


def test_notebooks_show_a_front_as_its_line_above_its_points(measured):
    pytest.importorskip("scipy", reason="the extra ptq is not installed")
    model, table = measured
    front = qf.allocate(model, table)
    shown = front._repr_html_()
    assert shown.count("<circle") == len(front.points)
    assert shown.index("<svg") < shown.index("<details>") < shown.index("<td")


def test_other_objects_say_what_to_type(measured):
    model, table = measured
    with pytest.raises(ArgumentError, match=r"qframe\.allocate\(model, table\)"):
        qf.report(model, front=table)
    with pytest.raises(ArgumentError, match=r"qframe\.sensitivity\(model, data\)"):
        qf.report(model, sensitivity=3)
