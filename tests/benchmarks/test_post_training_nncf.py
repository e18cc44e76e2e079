"""Networks quantized by NNCF after training, for the table of `test_post_training.py`.

Run by ``QFRAME_EMOJI=FOLDER tox run -e bench-nncf``. NNCF has 8 bits alone here: it does
not round weights of fewer by what they do, except in language models. Nor has its slow
correction of biases a form for PyTorch.
"""

import nncf
from torch import nn

from benchmarks.emoji import network, pictures, show_accuracies
from benchmarks.emoji_torch import accuracy, batches, copied

SYMMETRIC, MIXED = nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED
WAYS = {
    "symmetric activations": {"preset": SYMMETRIC},
    "asymmetric activations": {"preset": MIXED},
    "asymmetric, smooth": {"preset": MIXED, "model_type": nncf.ModelType.TRANSFORMER},
    "asymmetric, biases as they are": {
        "preset": MIXED,
        "advanced_parameters": nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True
        ),
    },
}


class Network(nn.Module):
    """A chain within a module, since NNCF adds to a module what is no part of a chain."""

    def __init__(self, chain):
        super().__init__()
        self.chain = chain

    def forward(self, images):
        return self.chain(images)


def test_nncf():
    def measure(number):
        model, shown = network(number), pictures(number)
        images = list(batches(shown.calibration))
        found = {}
        for way, options in WAYS.items():
            quantized = nncf.quantize(
                Network(copied(model)),
                nncf.Dataset(images),
                subset_size=len(images),
                **options,
            )
            found[way] = accuracy(quantized, shown)
        return found

    show_accuracies(f"W8 by channel, A8, NNCF {nncf.__version__}", WAYS, measure)
