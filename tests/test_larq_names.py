"""Every public name of Larq exists here, or the migration table says what to use."""

import re
from pathlib import Path

import pytest

import qframe as qf

# Of the modules that `larq.__all__` names, in the wheel of Larq 0.13.0.
NAMES = {
    "activations": "hard_tanh leaky_tanh",
    "callbacks": "HyperparameterScheduler",
    "constraints": "WeightClip weight_clip",
    "context": "quantized_scope should_quantize metrics_scope get_training_metrics",
    "layers": (
        "QuantDense QuantConv1D QuantConv2D QuantConv3D QuantDepthwiseConv2D "
        "QuantSeparableConv1D QuantSeparableConv2D QuantConv2DTranspose "
        "QuantConv3DTranspose QuantLocallyConnected1D QuantLocallyConnected2D"
    ),
    "math": "sign heaviside",
    "metrics": "FlipRatio",
    "models": (
        "WeightProfile OperationProfile LayerProfile ModelProfile sanitize_table "
        "LayersTable SummaryTable summary"
    ),
    "optimizers": "CaseOptimizer Bop",
    "quantizers": (
        "ste_sign approx_sign swish_sign ste_tern ste_heaviside Quantizer NoOp "
        "NoOpQuantizer SteSign ApproxSign SteHeaviside SwishSign MagnitudeAwareSign "
        "SteTern DoReFa DoReFaQuantizer QuantizerType serialize deserialize get "
        "get_kernel_quantizer"
    ),
    "utils": (
        "memory_as_readable_str register_keras_custom_object register_alias set_precision "
        "patch_object"
    ),
}
PAIRS = [(module, name) for module, names in NAMES.items() for name in names.split()]
TABLE = (Path(__file__).parents[1] / "docs" / "larq.md").read_text("utf-8")
# The replacements in another column of the table, by the names in the first.
ELSEWHERE = {
    name
    for row in re.findall(r"^\| (.*?) \| (.*?) \|$", TABLE, re.MULTILINE)
    for name in re.findall(r"`(?:\w+\.)*(\w+)`", row[0])
    if not row[1].startswith("the same")
}


@pytest.mark.parametrize(("module", "name"), PAIRS, ids=".".join)
def test_it_exists_or_the_table_says_what_to_use(module, name):
    exists = hasattr(getattr(qf, module), name)
    assert exists or name in ELSEWHERE


def test_the_check_can_fail():
    assert not hasattr(qf.quantizers, "get_kernel_quantizer")
    assert "get_kernel_quantizer" in ELSEWHERE
    assert "ste_sign" not in ELSEWHERE


def test_the_arguments_of_the_training_tools_are_those_of_larq():
    arguments = {"optimizer": None, "update_freq": "epoch", "verbose": 0, "log_name": None}
    assert qf.callbacks.HyperparameterScheduler(lambda e: e, "gamma", **arguments)
    metric = qf.metrics.FlipRatio(values_dtype="int8", name="flip_ratio", dtype=None)
    assert metric.name == "flip_ratio"
