"""The page: whole, escaped, and with nothing asked from elsewhere."""

from html.parser import HTMLParser

import keras
import pytest

import qframe as qf
from qframe.reports.page import Section, page_of
from qframe.tables.markup import element

VOID = {"meta", "link"}
EVIL = "<script>alert(1)&\"'"


class Page(HTMLParser):
    """The elements of a page, and whether each is closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def count(self, tag, style=None):
        return sum(t == tag and style in (None, a.get("class")) for t, a in self.elements)


@pytest.fixture
def page(known, x):
    return Page(qf.report(known("ste_sign"), x, verbose=0).html)


def test_it_is_whole(page):
    assert page.open == []
    assert page.count("table") == 3
    assert page.count("h1") == 1
    assert page.count("figure") == 2  # a histogram for each kernel
    assert page.count("path", "edge") == 3  # of input, dense, relu, dense


def test_sections_are_in_their_order_below_headings():
    sections = (
        Section("", [element("p", "figures")]),
        Section("One & <two>", [element("p", "first"), element("p", "second")]),
        Section("Three", []),
    )
    page = Page(page_of("Title", "Made by hand.", sections))
    assert page.open == []
    shown = [text for text in page.texts if text.strip()]
    body = shown[shown.index("Made by hand.") :]
    assert body[:-1] == [
        "Made by hand.",
        "figures",
        "One & <two>",
        "first",
        "second",
        "Three",
    ]


def test_the_column_that_a_table_is_sorted_by_is_marked(page):
    heads = [a.get("aria-sort") for tag, a in page.elements if tag == "th" and "scope" in a]
    assert heads.count("ascending") == 1
    assert {*heads} == {"ascending", None}


def test_nothing_is_asked_from_elsewhere(page):
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
    (policy,) = (a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    (style,) = (text for text in page.texts if "color-scheme" in text)
    assert "url(" not in style
    assert "@import" not in style


def test_names_are_text():
    layer = keras.layers.Dense(2, name=EVIL)
    model = keras.Sequential([keras.Input((3,)), layer], name=f"model {EVIL}")
    qf.quantize(model, {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"})
    page = Page(qf.report(model).html)
    assert page.open == []
    assert page.count("script") == 1  # ours
    assert f"model {EVIL}" in page.texts
    assert f"{EVIL}/kernel" in page.texts


def test_bits_are_in_the_picture(page):
    kinds = [a.get("class") for t, a in page.elements if t == "g"]
    assert kinds.count("box bits1") == 2
    assert kinds.count("box") == 2
    assert "Dense, 1-bit" in page.texts


def test_a_model_of_code_is_a_list():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2, name="inner")

        def call(self, x):
            return self.dense(x)

    model = Mine()
    model.build((None, 3))
    model(keras.ops.ones((1, 3)))
    page = Page(qf.report(model).html)
    assert page.count("ol", "layers") == 1
    assert page.count("path", "edge") == 0
