"""Profiles as text, HTML and JSON."""

import html.parser
import io

import keras
import pytest
import rich.console
from keras import layers

import qframe as qf
from qframe.models import LayerProfile, MacProfile, ModelProfile, WeightProfile

NAME = "encoder/[bold]a_rather_long_name_of_a_layer_" + "x" * 60


def layer(name=NAME, macs=(), built=True, count=10, shapes=((None, 4),)):
    weights = (WeightProfile("kernel", (count,), 2, True),) if count else ()
    return LayerProfile(name, "Dense", 2, shapes, weights, macs, built)


def printed(profile, width):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(profile)
    return console.file.getvalue()


def stats(*layer_profiles, **options):
    profile = ModelProfile("model", layer_profiles)
    return [table.to_text() for table in profile.tables(**options)]


def test_unknown_macs_mark_every_sum_they_are_in():
    known, unknown = MacProfile(1, 30), MacProfile(32, None)
    table, totals = stats(layer("a", (known,)), layer("b", (unknown,)))
    rows = [line.strip("| ").split() for line in table.splitlines()]
    assert rows[4][-2:] == ["30", "0"]
    assert rows[5][-2:] == ["0", "?"]
    assert rows[7][-2:] == ["30", "?"]
    assert "Number of MACs                    30 + ?" in totals
    assert "binarized  ?" in totals


def test_unknown_precision_marks_every_column():
    table, _ = stats(
        layer("a", (MacProfile(1, 30),)), layer("b", (MacProfile(None, None),))
    )
    assert table.splitlines()[5].split()[-2] == "?"
    assert "30 + ?" in table.splitlines()[7]


def test_unknown_macs_alone_have_a_column():
    table, totals = stats(layer("a", (MacProfile(None, None),)))
    assert "32-bit MACs" in table
    assert "binarized" not in totals


def test_layer_that_is_not_built():
    table, totals = stats(layer("a"), layer("b", built=False, count=0))
    assert table.splitlines()[5].split()[-3:-1] == ["?", "?"]
    assert "10 + ?" in table
    assert totals.count("+ ?") == 5


def test_ternary_ratio():
    _, totals = stats(layer("a", (MacProfile(2, 1),)), layer("b", (MacProfile(32, 3),)))
    assert "Ratio of MACs that are ternarized  0.2500" in totals
    assert "binarized" not in totals


def test_several_outputs():
    table, _ = stats(layer("a", shapes=((None, 4), None)))
    assert "(-1, 4), ?" in table


@pytest.mark.parametrize("width", [20, 60, 100, 300])
def test_text_does_not_depend_on_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    table, _ = stats(layer())
    assert NAME in table
    assert "\x1b" not in table
    assert len({len(line) for line in table.splitlines()}) == 1
    table.encode("ascii")


@pytest.mark.parametrize("width", [120, 160, 400])
def test_rich_cuts_no_name(width):
    assert NAME in printed(ModelProfile("model", (layer(),)), width)


@pytest.mark.parametrize("width", [20, 40, 80, 160])
def test_rich_cuts_no_figure(width):
    macs = (MacProfile(1, 1234567), MacProfile(32, 7654321))
    text = printed(ModelProfile("model", (layer("a", macs),)), width)
    assert "1234567" in text
    assert "7654321" in text


class Cells(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tables, self.recorded = 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tables += tag == "table"

    def handle_data(self, data):
        self.recorded.append(data.strip())


def test_html():
    page = Cells(ModelProfile("<b>&", (layer("<script>"),))._repr_html_())
    assert page.tables == 2
    assert "<b>& stats" in page.recorded
    assert "<script>" in page.recorded
    assert "Total params" in page.recorded


def test_unicode_names():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="größe_層")])
    texts = []
    qf.models.summary(model, print_fn=texts.append)
    assert "größe_層" in texts[0]
