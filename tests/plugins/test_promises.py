"""The promises of our quantizers: a withdrawn promise would withdraw its checks."""

import attrs
import pytest

from qframe.quantizers import Traits
from qframe.registry.discovery import FIRST_PARTY, registry
from qframe.testing.checks.plugins import subjects_of
from qframe.testing.subjects import QuantizerSubject

pytestmark = pytest.mark.ends
# Of each with its default arguments; what the values of levels, range and support are, the
# checks tell. All have a reference and a surrogate.
GRID = "levels range"
PLAIN = f"{GRID} elementwise idempotent monotone"
ODD = f"{PLAIN} odd"
MX = f"{GRID} idempotent odd scaled channelwise"
PROMISES = {
    "binary:ste_sign": f"{ODD} support",
    "binary:approx_sign": f"{ODD} support",
    "binary:swish_sign": ODD,
    "binary:ste_heaviside": f"{PLAIN} support",
    "binary:magnitude_aware_sign": f"{GRID} support odd scaled channelwise",
    "fixed:quantized_bits": PLAIN,
    "fixed:quantized_relu": f"{PLAIN} support",
    "fixed:quantized_tanh": f"{PLAIN} support",
    "fixed:quantized_sigmoid": f"{GRID} support elementwise monotone",
    "fixed:quantized_po2": ODD,
    "fixed:quantized_relu_po2": f"{PLAIN} support",
    "fixed:binary": ODD,
    "fixed:ternary": ODD,
    "fixed:stochastic_binary": f"{ODD} stochastic expectation",
    "fixed:stochastic_ternary": f"{ODD} stochastic expectation",
    "fixed:bernoulli": f"{GRID} elementwise monotone stochastic expectation",
    "float:minifloat": f"{ODD} support",
    "float:float8_e4m3": f"{ODD} support",
    "float:float8_e5m2": f"{ODD} support",
    "float:float6_e2m3": f"{ODD} support",
    "float:float6_e3m2": f"{ODD} support",
    "float:float4_e2m1": f"{ODD} support",
    "float:mxfp8": MX,
    "float:mxfp6": MX,
    "float:mxfp4": MX,
    "float:mxint8": MX,
    "integer:integer": f"{GRID} monotone scaled",
    "integer:integer_bias": "elementwise idempotent monotone odd sums",
    "kbit:dorefa": f"{PLAIN} support",
    "kbit:dorefa_sign": f"{GRID} odd scaled",
    "kbit:pact": f"{PLAIN} trainable ranged scaled",
    "kbit:lsq": f"{PLAIN} trainable updates ranged scaled",
    "kbit:lsq_plus": "elementwise monotone trainable updates ranged",
    "kbit:xnor_sign": f"{GRID} odd scaled channelwise",
    "kbit:hwgq": f"{PLAIN} support",
    "ternary:ste_tern": f"{ODD} support",
    "ternary:trained_ternary": "trainable updates",
}


def promises(traits):
    """The names of what is promised beside what every quantizer does."""
    fields = attrs.fields(Traits)
    return {f.name for f in fields if f.name != "nan" and getattr(traits, f.name)}


def test_promises():
    actual = {}
    for plugin in registry.discover().values():
        if plugin.distribution == FIRST_PARTY:
            for subject in subjects_of(plugin.namespace, ()):
                if isinstance(subject, QuantizerSubject):
                    name = str(subject.sample.identifier).partition("(")[0]
                    actual[name] = promises(subject.traits)
    expected = {k: {*v.split(), "reference", "surrogate"} for k, v in PROMISES.items()}
    assert actual == expected
