"""Trained networks quantized after training, beside what PyTorch's tools make of them.

Run by ``QFRAME_EMOJI=FOLDER tox run -e bench -- -k post_training``, and each tool by an
environment of its own: ``bench-brevitas``, ``bench-aimet`` and ``bench-nncf``.
"""

import keras
import pytest

import qframe as qf
from benchmarks.emoji import SETTINGS, network, pictures, show_accuracies

METHODS = "nearest", "gptq", "adaround"
WAYS = ["nearest, biases as they are", *METHODS]
ACTIVATIONS = "integer(bits=8, symmetric=False, gather='moving_average')"


def quantizers(bits, granularity):
    weights = (
        f"integer(bits={bits}, granularity='{granularity}', narrow_range=True, range='mse')"
    )
    return {"weight_quantizer": weights, "input_quantizer": ACTIVATIONS}


@pytest.mark.parametrize("name", SETTINGS)
def test_qframe(name):
    setting = SETTINGS[name]

    def measure(number):
        model, shown = network(number), pictures(number)
        ends = quantizers(8, setting.granularity)
        rules = [
            (qf.first, ends),
            (qf.last, ends),
            (keras.layers.Layer, quantizers(*setting)),
        ]
        qf.quantize(model, rules)
        # In one batch, so that the range is that of all pictures.
        images = shown.calibration
        qf.calibrate(model, images, verbose=0, batch_size=len(images))

        def accuracy():
            return shown.accuracy(model.predict(shown.tests, batch_size=256, verbose=0))

        found = {WAYS[0]: accuracy()}
        for method in METHODS:
            qf.round_weights(model, images, method, verbose=0)
            found[method] = accuracy()
        return found

    show_accuracies(f"{name}, qframe {qf.__version__}", WAYS, measure)
