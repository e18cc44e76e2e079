"""The page of a report in a real browser."""

import base64

import keras
import numpy as np
import pytest
from selenium.webdriver.common.by import By

import qframe as qf

EVIL = "<script>document.title='taken'&\"'"


@pytest.fixture(scope="module")
def residual():
    """A report with data, of a model that branches."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    inner = keras.layers.Conv2D(4, 3, padding="same", name="inner")(stem)
    x = keras.layers.Add(name="sum")([stem, inner])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x), name="residual")
    first = (qf.first, {"kernel_quantizer": "integer(bits=8)"})
    rest = {"kernel_quantizer": "integer(bits=2)", "input_quantizer": "integer(bits=4)"}
    qf.quantize(model, [first, ("re:.*", rest)])
    data = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    return qf.report(model, data, verbose=0)


@pytest.fixture
def opened(browser, requests, residual, tmp_path):
    """The page, open."""
    residual.save(tmp_path / "report.html")
    browser.get_log("browser")
    requests()
    browser.get((tmp_path / "report.html").as_uri())
    return browser


def column(browser, table, head):
    """The texts of a column, from top to bottom."""
    return browser.execute_script(
        """
        const table = document.querySelectorAll("table")[arguments[0]];
        const heads = [...table.tHead.rows[0].cells].map(
            (cell) => cell.textContent.replace(/\\s+/g, " "));
        const index = heads.indexOf(arguments[1]);
        return [...table.tBodies[0].rows].map((row) => row.cells[index].textContent);
        """,
        table,
        head,
    )


def click(browser, table, index):
    browser.find_elements(By.TAG_NAME, "table")[table].find_elements(
        By.CSS_SELECTOR, "thead button"
    )[index].click()


def test_it_shows_all_and_the_console_is_empty(opened, residual):
    assert opened.title == "residual"
    assert len(opened.find_elements(By.TAG_NAME, "table")) == 3
    names = [e.text for e in opened.find_elements(By.CSS_SELECTOR, ".picture .name")]
    assert names[1:] == ["stem", "inner", "sum", "pool", "head"]
    for picture in opened.find_elements(By.TAG_NAME, "svg"):
        assert picture.size["width"] > 50
        assert picture.size["height"] > 50
    assert column(opened, 2, "Layer") == [row.path for row in residual.activations]
    assert opened.get_log("browser") == []


def test_no_request_leaves_the_page(opened, requests):
    asked = requests()
    assert [url for url in asked if url.startswith("file:")]  # the page itself is seen
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_its_policy_lets_nothing_in(opened, requests):
    """A name that became markup could neither run nor ask for anything."""
    opened.execute_script(
        """
        const image = document.createElement("img");
        image.src = "http://localhost:9/pixel.png";
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(image, script);
        """
    )
    assert opened.title == "residual"
    refused = [entry["message"] for entry in opened.get_log("browser")]
    assert any("img-src" in message for message in refused)
    assert any("script-src" in message for message in refused)


def test_a_click_on_a_head_sorts(opened):
    names = column(opened, 0, "Layer")
    click(opened, 0, 0)
    assert column(opened, 0, "Layer") == sorted(names)
    click(opened, 0, 0)
    assert column(opened, 0, "Layer") == sorted(names, reverse=True)
    # As numbers, not as text.
    memory = column(opened, 0, "Memory (kB)")
    click(opened, 0, [*opened_heads(opened, 0)].index("Memory (kB)"))
    assert column(opened, 0, "Memory (kB)") == sorted(memory, key=float)
    heads = opened.find_elements(By.CSS_SELECTOR, "table:first-of-type th[aria-sort]")
    assert heads[0].get_attribute("aria-sort") == "ascending"


def opened_heads(browser, table):
    heads = browser.find_elements(By.TAG_NAME, "table")[table].find_elements(
        By.CSS_SELECTOR, "thead button"
    )
    return [" ".join(head.text.replace("\xa0", " ").strip("↑↓ ").split()) for head in heads]


def test_unknown_values_stay_last(opened):
    index = opened_heads(opened, 2).index("Input saturated (%)")
    for _ in range(2):
        click(opened, 2, index)
        shares = column(opened, 2, "Input saturated (%)")
        known = [share for share in shares if share != "-"]
        assert 0 < len(known) < len(shares)
        assert shares[: len(known)] == known


def background(browser, mode):
    features = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    style = "return getComputedStyle(document.body)[arguments[0]]"
    return [browser.execute_script(style, key) for key in ("backgroundColor", "color")]


def test_dark_mode(opened):
    (paper, ink), (dark_paper, dark_ink) = (
        background(opened, m) for m in ("light", "dark")
    )
    assert paper == "rgb(255, 255, 255)"
    assert luminance(dark_paper) < 0.2 < luminance(paper)
    assert luminance(ink) < 0.5 < luminance(dark_ink)


def luminance(colour):
    numbers = [float(n) for n in colour.strip("rgba()").split(",")[:3]]
    return sum(numbers) / 3 / 255


def test_it_prints(opened):
    background(opened, "dark")
    pdf = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    # Paper is white whatever the screen is.
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    style = "return getComputedStyle(document.body).backgroundColor"
    assert opened.execute_script(style) == "rgb(255, 255, 255)"
    height = "return getComputedStyle(document.querySelector('.picture')).maxHeight"
    assert opened.execute_script(height) == "none"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_names_are_text(browser, tmp_path):
    layer = keras.layers.Dense(2, name=EVIL)
    model = keras.Sequential([keras.Input((3,)), layer], name=f"named {EVIL}")
    qf.quantize(model, {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"})
    qf.report(model).save(tmp_path / "evil.html")
    browser.get_log("browser")
    browser.get((tmp_path / "evil.html").as_uri())
    assert browser.title == f"named {EVIL}"
    assert browser.find_element(By.TAG_NAME, "h1").text == f"named {EVIL}"
    assert column(browser, 1, "Weight") == [f"{EVIL}/kernel"]
    assert browser.get_log("browser") == []
