"""The picture of a report in the documents, drawn by `tox run -e picture`.

A small residual network is trained on the digits that come with qframe, quantized to 8
and 4 bits, and reported with data. The picture is that page down to the table of layers.
"""

import tempfile
from io import BytesIO
from pathlib import Path

import keras
from keras import layers
from PIL import Image

import qframe as qf
from browser_programs import start
from qframe.cli.quickstart import data

PICTURE = Path(__file__).parents[2] / "docs" / "_static" / "report.png"
WIDTH, HEIGHT = 1000, 1210
COLOURS = 256


def report():
    """Of a network that is trained and quantized."""
    digits = data.load("digits")
    images = keras.Input((28, 28, 1))
    stem = layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(images)
    inner = layers.Conv2D(16, 3, padding="same", activation="relu", name="inner")(stem)
    x = layers.Add(name="sum")([stem, inner])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(images, layers.Dense(10, name="head")(x), name="digits")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(data.as_input(digits.x_train), digits.y_train, epochs=4, verbose=0)
    examples = data.as_input(digits.x_test[:256])
    eight = "integer(granularity='channel', narrow_range=True)"
    four = eight.replace("(", "(bits=4, ")
    given = "integer(symmetric=False, gather='moving_average')"
    ends = {"kernel_quantizer": eight, "input_quantizer": given}
    rest = {"kernel_quantizer": four, "input_quantizer": given}
    qf.quantize(model, [(qf.first, ends), (qf.last, ends), (None, rest)])
    qf.calibrate(model, examples, verbose=0)
    return qf.report(model, examples, verbose=0)


def main():
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        report().save(page)
        browser = start(folder)
        try:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {
                    "width": WIDTH,
                    "height": HEIGHT,
                    "deviceScaleFactor": 1,
                    "mobile": False,
                },
            )
            browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            browser.get(page.as_uri())
            shot = Image.open(BytesIO(browser.get_screenshot_as_png()))
        finally:
            browser.quit()
    # A palette takes less space, and no eye sees it.
    shot.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
