"""The edges of models of several topologies, and planted faults, found where they are."""

from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from exact_networks import SIGN, exported, integers, planted
from qframe.deployment.graph.reference import tensors_of
from qframe_packed import files
from qframe_packed.packing import PackedTensor

pytestmark = pytest.mark.ends

BINARY = {**SIGN, "input_quantizer": "ste_sign", "use_bias": False}


def verified(model, path, x):
    return qf.verify(model, path, x, verbose=0)


def test_a_planted_weight_is_found_at_its_layer(model, path, x):
    (place,) = (i for i, n in enumerate(files.read(path).nodes) if n.edge == "conv2")
    kernel = files.read(path).nodes[place].operation.kernel
    values = kernel.integers().copy()
    values[1, 0, 1, 5] *= -1
    planted(path, place, kernel=PackedTensor.of(values))
    first = verified(model, path, x).first_difference
    assert first.name == "conv2"
    # One weight of a channel of four, which changes each of its sums by 2.
    assert first.agreement.equal == 0.75
    assert first.agreement.largest == first.agreement.largest_steps == 2


def test_a_planted_threshold_is_found_at_the_quantizer(model, path, x):
    operation = files.read(path).nodes[1].operation
    thresholds = operation.thresholds.copy()
    thresholds[0, 3] += 1
    planted(path, 1, thresholds=thresholds)
    first = verified(model, path, x).first_difference
    assert first.name == "conv2:input"
    assert 0.8 < first.agreement.equal < 1
    assert first.agreement.largest == 2


def test_a_planted_scale_is_found_at_the_batch_normalization(model, path, x):
    operation = files.read(path).nodes[4].operation
    scale = operation.scale.copy()
    scale[2] *= np.float32(1.001)
    planted(path, 4, scale=scale)
    first = verified(model, path, x).first_difference
    assert first.name == "norm2"
    assert 0.75 <= first.agreement.equal < 0.9


def _changed(value, place):
    """A number, weights or an array with another number at a place."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, PackedTensor):
        weights = value.integers().copy()
        place %= weights.size
        weights.flat[place] = weights.min() + weights.max() - weights.flat[place]
        return PackedTensor.of(weights)
    array = value.copy()
    array.flat[place % array.size] += array.dtype.type(1)
    # Thresholds ascend.
    return np.sort(array, axis=0) if array.ndim == 2 else array


@settings(max_examples=8)
@given(st.data())
def test_any_planted_fault_is_found_where_the_reference_has_it(model, content, x, data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(content)
        before = files.read(path)
        names = ("kernel", "thresholds", "scale", "shift", "low")
        faults = [
            (place, name)
            for place, node in enumerate(before.nodes)
            for name in names
            if getattr(node.operation, name, None) is not None
        ]
        place, name = data.draw(st.sampled_from(faults))
        value = getattr(before.nodes[place].operation, name)
        value = _changed(value, data.draw(st.integers(0, 2**16)))
        planted(path, place, **{name: value})
        after = files.read(path)
        actual = verified(model, path, x)
    pairs = zip(tensors_of(before, x), tensors_of(after, x), strict=True)
    differences = [np.asarray(a) != np.asarray(b) for a, b in pairs][1:]
    expected = [
        (node.edge, int(different.sum()))
        for node, different in zip(before.nodes, differences, strict=True)
        if node.edge and different.any()
    ]
    found = [
        (edge.name, edge.agreement.count - edge.agreement.equal_count)
        for edge in actual.edges
        if edge.differs
    ]
    assert found == expected


def shared_twice():
    x = inputs = keras.Input((4,))
    dense = qf.layers.QuantDense(4, name="dense", **BINARY)
    return keras.Model(inputs, dense(dense(x)))


def nested_twice():
    inner = keras.Sequential(
        [keras.Input((4,)), qf.layers.QuantDense(4, name="dense", **BINARY)], name="inner"
    )
    outer_input = keras.Input((4,))
    outer = keras.Model(outer_input, inner(inner(outer_input)), name="outer")
    inputs = keras.Input((4,))
    return keras.Model(inputs, inner(outer(inputs)))


def several_inputs():
    inputs = keras.Input((4,))
    one = qf.layers.QuantDense(3, name="one", **BINARY)(inputs)
    two = qf.layers.QuantDense(3, name="two", **BINARY)(inputs)
    joined = layers.Concatenate(name="join")([one, two])
    reshaped = layers.Reshape((6,), name="reshape")(joined)
    return keras.Model(inputs, layers.Dropout(0.5, name="dropout")(reshaped))


def quantizer_as_layer():
    inputs = keras.Input((4,))
    x = layers.Activation(qf.quantizers.get("ste_sign"), name="activation")(inputs)
    x = qf.layers.QuantDense(3, name="dense", output_quantizer="ste_sign", **BINARY)(x)
    return keras.Model(inputs, qf.quantizers.get("ste_tern")(x) + 1.0)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (shared_twice, ["dense:input", "dense", "dense:input#2", "dense#2"]),
        (
            nested_twice,
            [
                *("outer/inner/dense:input", "outer/inner/dense"),
                *("outer/inner/dense:input#2", "outer/inner/dense#2"),
                *("inner/dense:input", "inner/dense"),
            ],
        ),
        # Both quantizers of the input are one tensor of the file, or two.
        (several_inputs, ["one:input", "one", "two:input", "two", "join", "reshape"]),
        (quantizer_as_layer, ["activation", "dense:input", "dense"]),
    ],
)
def test_edges_are_those_of_the_calls_of_the_model(make, expected, tmp_path):
    keras.utils.set_random_seed(3)
    model = make()
    actual = verified(model, exported(model, tmp_path), integers(9, (4,)))
    assert [edge.name for edge in actual.edges][: len(expected)] == expected
    assert actual.first_difference is None
    assert actual.equal == 1


FUSED = """
import pickle
import numpy as np
import qframe
from qframe.deployment.graph.edges import Edge
from qframe.deployment.graph.fusing import FLOAT_BIAS_RULES, fuse
from qframe.deployment.graph.reference import tensors_of
from qframe.registry.components import exporter

@qframe.hookimpl
def qframe_components():
    yield exporter("fused", "fuses_m:Fused", suffix=".fused", runtime="fuses_m")

class Fused:
    def __call__(self, model, path):
        from qframe.deployment.lowering import ExportTarget, lower

        graph = fuse(lower(model, ExportTarget("fused")), FLOAT_BIAS_RULES)
        path.write_bytes(pickle.dumps(graph))

# Multiplies the scales of an edge.
WRONG = {}

class Loaded:
    def __init__(self, graph):
        self.graph, self.values = graph, graph.values()
        self.input_shapes = graph.inputs
        self.output_shapes = tuple(self.values[i].shape for i in graph.outputs)

    def predict(self, x):
        tensors = tensors_of(self.graph, x)
        return tensors[self.graph.outputs[0]]

    def edges(self, x):
        tensors, result = tensors_of(self.graph, x), {}
        for place, node in enumerate(self.graph.nodes, 1):
            grid = self.values[place].grid
            scale = None if grid is None else grid.scale * WRONG.get(node.edge, 1)
            if node.edge:
                result.setdefault(node.edge, Edge(tensors[place], scale))
        return result

def load(path):
    return Loaded(pickle.loads(path.read_bytes()))
"""


def test_edges_of_fused_operations_are_where_their_chains_end(model, x, tmp_path, install):
    install("fuses", FUSED)
    path = tmp_path / "m.fused"
    qf.export(model, path, target="fused")
    actual = verified(model, path, x)
    assert actual.first_difference is None
    assert (actual.target, actual.equal) == ("fused", 1)
    # The products of `conv2` and its batch normalization end with the quantizer.
    names = [edge.name for edge in actual.edges]
    assert "head:input" in names
    assert {"conv2", "norm2", "flatten"}.isdisjoint(names)
    steps = {edge.name: edge.agreement.within_one_step for edge in actual.edges}
    assert steps["conv2:input"] == steps["head:input"] == 1
    # A scale that the file has for its integers, and the model has another.
    __import__("fuses_m").WRONG["head:input"] = 1.001
    first = verified(model, path, x).first_difference
    assert first.name == "head:input"
    # Zeros are equal with any scale.
    assert 0 < first.agreement.equal < 0.5
