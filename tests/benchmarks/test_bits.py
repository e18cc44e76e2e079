"""Bits by layer at the size of uniform 3 bits, rounded to the nearest, without training.

Run by ``QFRAME_EMOJI=FOLDER tox run -e bench -- -k bits``. The bits are chosen from
pictures to train with, without labels.
"""

import qframe as qf
from benchmarks.emoji import network, pictures, show_accuracies

WAYS = "float", "uniform 3 bits", "bits by layer"
ACTIVATIONS = {"input_quantizer": "integer(symmetric=False, gather='moving_average')"}


def accuracies(number):
    """The accuracy in float, in 3 bits, and with the bits of each layer chosen."""
    model, shown = network(number), pictures(number)
    x = shown.calibration

    def accuracy():
        return shown.accuracy(model.predict(shown.tests, batch_size=256, verbose=0))

    found = [accuracy()]
    qf.quantize(model, ACTIVATIONS)
    qf.calibrate(model, x, verbose=0)
    table = qf.sensitivity(model, x, bits=(2, 3, 4, 5, 6, 8), batch_size=len(x))
    qf.quantize(model, qf.allocate(model, table, bits=3, among=3))
    found.append(accuracy())
    size = qf.models.profile(model).memory / 8
    qf.quantize(model, qf.allocate(model, table, size=size))
    found.append(accuracy())
    assert qf.models.profile(model).memory / 8 <= size
    return dict(zip(WAYS, found, strict=True))


def test_bits_by_layer():
    show_accuracies(f"Bits by layer, qframe {qf.__version__}", WAYS, accuracies)
