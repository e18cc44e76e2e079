"""Calls that do not change a quantized model, on every topology."""

import copy

import keras
import pytest

import qframe as qf
from fresh_process import quantized
from lifecycle import SETTINGS, reported, same, values
from topology_models import TOPOLOGIES

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]


def deep_copies(case):
    again = copy.deepcopy(case.model)
    assert len(quantized(again)) == case.topology.kernels
    same(case.topology.call(again), case.outputs, "output")


def clones(case):
    if case.topology.subclassed:  # which Keras itself does not clone
        return
    clone = keras.models.clone_model(case.model)
    clone.set_weights(case.model.get_weights())
    assert len(quantized(clone)) == case.topology.kernels
    same(case.topology.call(clone), case.outputs, "output")


def float_weights(case):
    with qf.float_weights(case.model) as given:
        assert given is case.model
        same(case.topology.call(case.model), case.plain, "output")


def weights_saved_as_quantized(case):
    # That wrapper keeps the kernel of the layer inside it as a separate weight.
    if case.topology.name == "spectral normalization":
        return
    model, file = case.model, case.folder / "q.weights.h5"
    with qf.context.quantized_scope(True):
        read = model.get_weights()
        model.save_weights(file)
    same(model.get_weights(), case.weights, "weight")
    model.load_weights(file)
    same(model.get_weights(), read, "weight")
    changed = sum((a != b).any() for a, b in zip(read, case.weights, strict=True))
    changes = [
        word for row in case.rows for word in row.settings if word.endswith("_quantizer")
    ]
    assert changed == len(changes)
    model.set_weights(case.weights)


def reports(case):
    case.topology.compile(case.model)
    reported(case.model, case.topology.inputs())


class Case:
    """A topology, its model, and what that was and gave."""

    def __init__(self, topology, folder):
        self.topology, self.folder = topology, folder
        self.model = topology.model()
        self.plain = topology.call(self.model)
        self.rows = qf.quantize(self.model, SETTINGS).quantized
        self.weights = values(self.model.weights)
        self.outputs = topology.call(self.model)


@pytest.mark.one_case_in(5)
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_one_model(topology, tmp_path):
    case = Case(topology, tmp_path)
    for aspect in (deep_copies, clones, float_weights, weights_saved_as_quantized, reports):
        aspect(case)
        same(values(case.model.weights), case.weights, f"weight after {aspect.__name__}")
        same(topology.call(case.model), case.outputs, f"output after {aspect.__name__}")
