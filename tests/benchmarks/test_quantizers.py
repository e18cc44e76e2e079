"""The time of each quantizer, forward and backward, against a ReLU on the same tensor.

Every registered quantizer that needs no arguments is in the table, those of other
distributions too. Run by ``tox run -e bench``.
"""

import keras
import numpy as np
import pytest

import qframe as qf
from benchmarks.timing import interleaved, show
from qframe.quantizers.differentiation import MODES, compiled_gradient, to_tensor
from qframe.registry.configurable import missing_arguments
from qframe.registry.discovery import registry

SHAPE, ROUNDS = (64, 32, 32, 16), 30


def names():
    return [
        component.qualified_name
        for component in registry.components("quantizer")
        if not missing_arguments(registry.load(component))
    ]


@pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")
@pytest.mark.parametrize("mode", MODES)
def test_cost(mode):
    rng = np.random.default_rng(0)
    x, upstream = (to_tensor(rng.normal(size=SHAPE).astype("float32")) for _ in range(2))

    def step(function):
        run = compiled_gradient(function, mode)
        return lambda: [keras.ops.convert_to_numpy(part)[0] for part in run(x, upstream)]

    actions = {"ReLU": step(keras.ops.relu), "ReLU again": step(keras.ops.relu)}
    for name in names():
        quantizer = qf.quantizers.get(name)
        quantizer.build(SHAPE)
        actions[name] = step(quantizer)
    taken = interleaved(actions, ROUNDS)
    rows = [[name, f"{time / taken['ReLU']:.2f}"] for name, time in taken.items()]
    backend = keras.backend.backend()
    show(f"Forward and backward, {backend}, {mode}, {SHAPE}", ["quantizer", "x ReLU"], rows)
    assert len(rows) == len(names()) + 2
