"""The notes on pruned weights whose zeros do not stay."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from qframe.errors import UnprunedWeightsWarning

pytestmark = [
    pytest.mark.once_per_backend,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
    pytest.mark.filterwarnings("ignore::qframe.errors.UnprunedWeightsWarning"),
]

QUANTIZERS = [
    *("ste_sign", "magnitude_aware_sign", "lsq_plus"),
    *("lsq", "ste_tern", "integer", "dorefa(k_bit=2)"),
]


def pruned(part=0.5):
    """A model whose second kernel has zeros in it, as magnitude pruning leaves them."""
    dense = [layers.Dense(8, name="whole"), layers.Dense(8, name="pruned")]
    model = keras.Sequential([keras.Input((8,)), *dense])
    kernel = np.random.default_rng(0).normal(size=64).astype("float32")
    kernel[np.argsort(abs(kernel))[: int(part * 64)]] = 0
    model.get_layer("pruned").kernel.assign(kernel.reshape(8, 8))
    return model


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_note_where_the_zeros_of_the_kernel_are_others_once_quantized(quantizer):
    model = pruned()
    layer = model.get_layer("pruned")
    zeros = ops.convert_to_numpy(layer.kernel) == 0
    planned = qf.plan(model, {"kernel_quantizer": quantizer}).notes
    assert qf.quantize(model, {"kernel_quantizer": quantizer}).notes == planned
    with qf.context.quantized_scope(True):
        value = ops.convert_to_numpy(layer.kernel)
    assert bool(planned) == bool(value[zeros].any())
    assert qf.models.profile(model).notes == planned
    for note in planned:
        assert "'pruned'" in note
        assert "50% of it is zero" in note
        assert "kernel_quantizer=None" in note


def test_it_is_a_warning_before_anything_changes():
    model = pruned()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprunedWeightsWarning)
        with pytest.raises(UnprunedWeightsWarning, match="makes 1 of a zero"):
            qf.quantize(model, {"kernel_quantizer": "approx_sign"})
    assert type(model.get_layer("pruned")) is layers.Dense


@pytest.mark.parametrize("part", [0.02, 1.0])
def test_a_few_zeros_and_nothing_but_zeros_are_not_pruned(part):
    assert qf.plan(pruned(part), {"weight_quantizer": "ste_sign"}).notes == ()
    assert qf.plan(pruned(), {"bias_quantizer": "ste_sign"}).notes == ()
