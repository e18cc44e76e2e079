"""The time of calibration, against a plain `predict` over the same images.

Both trace the model each time, as a first call does. Run by ``tox run -e bench``.
"""

import keras
import numpy as np

import qframe as qf
from benchmarks.timing import interleaved, show

IMAGES, ROUNDS, GOAL = 100, 3, 1.5
METHODS = ("minmax", "mse")


def test_mobilenet():
    images = np.random.default_rng(0).normal(size=(IMAGES, 224, 224, 3)).astype("float32")
    plain, model = (keras.applications.MobileNetV2(weights=None) for _ in range(2))
    ranges = len(qf.quantize(model, "integer_inference").quantized)

    def predict():
        plain.predict_function = None
        plain.predict(images, verbose=0)

    actions = {"predict": predict, "predict again": predict}
    for method in METHODS:
        actions[method] = lambda m=method: qf.calibrate(model, images, m, verbose=0)
    medians = interleaved(actions, ROUNDS, warm=1)
    show(
        f"MobileNetV2 with {ranges} ranges, {IMAGES} images, {keras.backend.backend()}",
        ["", "seconds", "ratio", "goal"],
        [
            [
                name,
                f"{median:.1f}",
                f"{median / medians['predict']:.2f}",
                f"<= {GOAL}" if name == "minmax" else "",
            ]
            for name, median in medians.items()
        ],
    )
