"""Every quantizer and constraint that qframe ships keeps its promises."""

import keras
import pytest

from qframe.quantizers import Traits
from qframe.registry.discovery import FIRST_PARTY, registry
from qframe.testing import plugin_checks
from qframe.testing.parametrization import parametrize
from qframe.testing.subjects import subject_of
from qframe.testing.suites import checks_of

PLUGINS = [p for p in registry.discover().values() if p.distribution == FIRST_PARTY]
# Each component is checked with its defaults, and so is what is here: what has no defaults,
# and what keeps state or draws, which each backend does in its own way.
OTHERS = {
    "binary": ["noop(precision=8)"],
    "integer": [
        "integer(symmetric=False, gather='moving_average')",
        "integer(bits=3, rounding='stochastic', seed=1)",
    ],
    "float": [
        "minifloat(exponent_bits=5, mantissa_bits=10, specials='ieee')",
        "float8_e5m2(scale='channel', rounding='stochastic', seed=1)",
    ],
    "ternary": [],
    "litert": [],
    "packed": [],
    "sensitivity": [],
    "kbit": ["lsq(bits=3, per_channel=True)"],
    "fixed": ["quantized_bits(bits=4, symmetric=True, use_stochastic_rounding=True)"],
}
# Other formulas and numbers, the same on each backend.
VARIANTS = [
    "ste_sign(clip_value=None)",
    "weight_clip(clip_value=0.5)",
    "integer(bits=4, symmetric=False)",
    "integer(bits=4, granularity='channel', narrow_range=True)",
    "integer(bits=3, granularity='channel', gather='widest')",
    "integer(bits=4, granularity='group', group_size=3)",
    "integer(bits=4, range='percentile', percentile=90.0)",
    "integer(bits=3, granularity='channel', range='mse')",
    "minifloat(exponent_bits=3, mantissa_bits=0, specials='none', scale='tensor')",
    "float4_e2m1(scale='channel', power_of_two=True)",
    "mxfp8(element='e5m2', axis=-1)",
    "mxfp6(element='e3m2', block_size=3)",
    "ste_tern(ternary_weight_networks=True)",
    "ste_tern(clip_value=None)",
    "dorefa(k_bit=3, mode='weights')",
    "pact(bits=2, alpha=3.0)",
    "lsq(bits=8, signed=False)",
    "lsq_plus(bits=3, signed=True)",
    "quantized_bits(bits=4, integer=1, alpha='auto_po2')",
    "quantized_relu(4, 2, 1)",
    "quantized_relu(bits=5, integer=1, negative_slope=0.25)",
    "quantized_tanh(4, True, True, True)",
    "quantized_po2(bits=5, max_value=1.0, use_stochastic_rounding=True)",
    "fixed:binary(use_01=True, alpha='auto_po2')",
    # What it starts from is seen in one turn; five come to much the same from anywhere.
    "fixed:ternary(alpha='auto', number_of_unrolls=1)",
]
# An argument of an elementwise quantizer changes a formula. What that does in a
# layer, and in a file, is checked with the defaults.
NOT_OF_FORMULAS = {
    "in_layer",
    "in_mixed_precision",
    "integer_inputs",
    "name",
    "saved_for_others",
    "saved_model",
    "trains",
}
# Checks that compute on no backend.
PURE = {"documented", "identifier", "light", "loads", "name", "parameters", "reads"}
# The promises of a formula: if TensorFlow keeps one, so do others that compute the same
# values and gradients, as `reference` and `surrogate` say of the same tensors.
OF_FORMULAS = {
    *("bits", "elementwise", "idempotent", "levels"),
    *("monotone", "odd", "range_", "support"),
}
pytestmark = [
    pytest.mark.every_case,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]


def is_formula(identifier):
    """Return whether a component computes each value from one number, without state."""
    traits = getattr(subject_of(identifier).sample, "traits", Traits())
    return traits.elementwise and not (traits.updates or traits.trainable)


def checks():
    """Those of all plugins; checks that no backend repeats run on TensorFlow.

    Layers and files hold all formulas alike: they are checked with the first formula of
    each plugin.
    """
    of_plugins = [plugin_checks(*plugin) for plugin in OTHERS.items()]
    every = [check for found in of_plugins for check in found]
    assert {check.name for check in every} >= PURE | OF_FORMULAS | NOT_OF_FORMULAS
    left_out = set() if keras.backend.backend() == "tensorflow" else PURE | OF_FORMULAS
    known = set()
    for found in of_plugins:
        components = dict.fromkeys(c.component for c in found if c.name == "in_layer")
        known.update([*filter(is_formula, components)][1:])
    return [
        check
        for check in every
        if check.name not in left_out
        and not (check.name in NOT_OF_FORMULAS and check.component in known)
    ]


def checks_of_variants():
    """Those of formulas, and all where an argument changes a state or a scale too."""
    result = []
    for variant in VARIANTS:
        left_out = NOT_OF_FORMULAS if is_formula(variant) else {"saved_for_others"}
        result += [check for check in checks_of(variant) if check.name not in left_out]
    return result


def test_every_plugin_is_here():
    # The quantizers of that one have a state for each number of one weight, and are tested
    # in tests/passes/test_rounding.py.
    assert {plugin.namespace for plugin in PLUGINS} - {"rounding"} == OTHERS.keys()


@pytest.mark.once_per_backend
@parametrize(checks(), {})
def test_conformance(check):
    check()


@pytest.mark.long
@pytest.mark.one_case_in(4)
@parametrize(checks_of_variants(), {})
def test_conformance_of_variants(check):
    check()
