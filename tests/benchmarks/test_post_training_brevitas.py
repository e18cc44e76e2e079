"""Weights rounded by Brevitas after training, for the table of `test_post_training.py`.

Run by ``QFRAME_EMOJI=FOLDER tox run -e bench-brevitas``.
"""

import itertools

import brevitas
import brevitas.nn as qnn
import pytest
import torch
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    Int8WeightPerChannelFloatMSE,
    Int8WeightPerTensorFloat,
    Int8WeightPerTensorFloatMSE,
    ShiftedUint8ActPerTensorFloat,
)

from benchmarks.emoji import SETTINGS, network, pictures, show_accuracies
from benchmarks.emoji_torch import accuracy, batches, copied, ends

WEIGHTS = {
    ("channel", "max"): Int8WeightPerChannelFloat,
    ("channel", "mse"): Int8WeightPerChannelFloatMSE,
    ("tensor", "max"): Int8WeightPerTensorFloat,
    ("tensor", "mse"): Int8WeightPerTensorFloatMSE,
}
ROUNDINGS = {"nearest": None, "gptq": False, "gptq by activity": True}
WAYS = [
    f"{rounding}, {scale}{bias}"
    for scale, rounding in itertools.product(("max", "mse"), ROUNDINGS)
    for bias in ("", ", bias corrected")
]


def calibrated(model, setting, scale, images):
    """A copy with quantizers, whose activations have seen the images."""

    def options(name):
        return {
            "weight_quant": WEIGHTS[setting.granularity, scale],
            "weight_bit_width": 8 if name in ends(model) else setting.bits,
            "input_quant": ShiftedUint8ActPerTensorFloat,
        }

    module = copied(model, qnn.QuantConv2d, qnn.QuantLinear, options)
    with torch.no_grad(), calibration_mode(module):
        for batch in batches(images):
            module(batch)
    with torch.no_grad():
        # The search for a scale of weights happens here, and GPTQ asks for it.
        module(next(batches(images)))
    return module


def rounded(module, images, by_activity):
    with torch.no_grad(), gptq_mode(module, act_order=by_activity) as gptq:
        for _ in range(gptq.num_layers):
            for batch in batches(images):
                gptq.model(batch)
            gptq.update()


def corrected(module, images):
    with torch.no_grad(), bias_correction_mode(module):
        for batch in batches(images):
            module(batch)


@pytest.mark.parametrize("name", SETTINGS)
def test_brevitas(name):
    def measure(number):
        model, shown = network(number), pictures(number)
        found = {}
        for scale, (rounding, by_activity) in itertools.product(
            ("max", "mse"), ROUNDINGS.items()
        ):
            module = calibrated(model, SETTINGS[name], scale, shown.calibration)
            if by_activity is not None:
                rounded(module, shown.calibration, by_activity)
            found[f"{rounding}, {scale}"] = accuracy(module, shown)
            corrected(module, shown.calibration)
            found[f"{rounding}, {scale}, bias corrected"] = accuracy(module, shown)
        return found

    show_accuracies(f"{name}, Brevitas {brevitas.__version__}", WAYS, measure)
