"""The picture of a model's graph: what its boxes and curves look like."""

import re
from html.parser import HTMLParser

import keras
import pytest

import qframe as qf
from qframe.reports.layout import BOX


class Shapes(HTMLParser):
    """The attributes of each element of some kind."""

    def __init__(self, html, tag):
        super().__init__()
        self.tag, self.recorded = tag, []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == self.tag:
            self.recorded.append(dict(attrs))


@pytest.fixture(scope="module")
def html():
    inputs = keras.Input((4,))
    inner = keras.layers.Dense(4)(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Add()([inputs, inner]))
    qf.quantize(model, {"kernel_quantizer": "ste_sign"})
    return qf.report(model, verbose=0).html


def test_boxes_are_as_large_as_the_layout_holds_them(html):
    boxes = [shape for shape in Shapes(html, "rect").recorded if "rx" in shape]
    sizes = [(float(shape["width"]), float(shape["height"])) for shape in boxes]
    assert sizes == [BOX] * 4
    assert all(float(shape["x"]) >= 0 and float(shape["y"]) >= 0 for shape in boxes)


def test_curves_leave_and_arrive_upright_and_bend_halfway(html):
    paths = [p["d"] for p in Shapes(html, "path").recorded if p.get("class") == "edge"]
    curves = 0
    for path in paths:
        numbers = [float(n) for n in re.findall(r"[\d.]+", path)]
        assert re.fullmatch("MC(VC)*", re.sub(r"[\d. ]+", "", path)), path
        (x, y), rest = numbers[:2], numbers[2:]
        while rest:
            (x1, y1, x2, y2, to_x, to_y), rest = rest[:6], rest[6:]
            assert (x1, x2) == (x, to_x)
            assert y < y1 == y2 < to_y
            assert y1 == pytest.approx((y + to_y) / 2, abs=0.11)
            curves += 1
            if rest:
                # Straight down beside a box.
                (y, *rest), x = rest, to_x
                assert y - to_y == pytest.approx(BOX[1], abs=0.11)
    assert len(paths) == 4
    assert curves == 6  # one edge passes two boxes
