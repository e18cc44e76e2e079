"""Observers of layers and quantizers, in models of every topology."""

import collections
import contextlib

import keras
import numpy as np
import pytest
from keras import layers, ops, tree

import qframe as qf
from lifecycle import SETTINGS
from qframe import context, observation
from qframe.errors import DataError
from qframe.observation import Observer, observable_sites
from topology_models import TOPOLOGIES, named

BACKEND = keras.backend.backend()
DATA = np.random.default_rng(0).normal(size=(10, 8)).astype("float32")
# One for each way in which a layer is called.
SAMPLE = [
    "shared layer",
    "nested two deep",
    "model used twice",
    "subclassed in functional",
    "unknown time",
    "bidirectional",
    "self attention",
]


def first(structure):
    """Figures of each example of the first tensor; None where it has no batch."""
    tensor = next(iter(tree.flatten(structure)), None)
    if not getattr(tensor, "shape", ()):
        return None
    tensor = ops.cast(tensor, "float32")
    rows = ops.reshape(tensor, (ops.shape(tensor)[0], -1))
    # Of one size for all calls of a layer, and not the same for another order of numbers.
    places = ops.cast(ops.arange(ops.shape(rows)[1]), "float32")
    figures = [ops.min(rows, 1), ops.max(rows, 1), ops.mean(rows * places, 1)]
    return ops.stack(figures, axis=1)


class Both(Observer):
    """Notes the inputs and outputs of the layers that can be observed."""

    def __init__(self, model):
        self.paths = {id(site.layer): site.path for site in observable_sites(model)}

    def on_layer(self, layer, call, *args, **kwargs):
        outputs = call(*args, **kwargs)
        ends = first(args), first(outputs)
        if id(layer) in self.paths and None not in ends:
            self.note(self.paths[id(layer)], *ends)
        return outputs


@contextlib.contextmanager
def recorded(model):
    """The inputs and outputs of the same layers in eager calls, by patched methods."""
    result = collections.defaultdict(list)
    patched = [(site.path, site.layer, site.layer.call) for site in observable_sites(model)]

    def recording(path, call):
        def recorded(*args, **kwargs):
            outputs = call(*args, **kwargs)
            ends = first(args), first(outputs)
            if None not in ends:
                result[path].append([ops.convert_to_numpy(end) for end in ends])
            return outputs

        return recorded

    for path, layer, call in patched:
        layer.__dict__["call"] = recording(path, call)
    try:
        yield result
    finally:
        for _, layer, _ in patched:
            del layer.__dict__["call"]


def check(topology, quantize=True):
    if topology.xla and BACKEND == "tensorflow":
        pytest.skip(reason="XLA alone runs it, and nothing can be recorded by hand there")
    model = topology.model()
    if quantize:
        qf.quantize(model, SETTINGS)
    with recorded(model) as calls:
        topology.call(model)
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()
    topology.compile(model)
    notes = observation.run(model, topology.inputs(), Both(model), verbose=0)
    assert set(notes) == set(calls) != set()
    tolerance = 2e-2 if "16" in topology.name else 1e-4
    for path, ends in notes.items():
        for result, expected in zip(ends, zip(*calls[path], strict=True), strict=True):
            np.testing.assert_allclose(
                result, np.concatenate(expected), tolerance, tolerance
            )


@pytest.mark.parametrize("name", SAMPLE)
def test_inputs_and_outputs_are_those_of_an_eager_call(name):
    check(named(name), quantize=False)


@pytest.mark.long
@pytest.mark.one_case_in(5)
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_inputs_and_outputs_of_every_quantized_topology(topology):
    """Float layers, as there are in each, are called as in the sample."""
    check(topology)


class Counted(Observer):
    """Notes a one for each example in each call of a layer."""

    def on_layer(self, layer, call, inputs, *args, **kwargs):
        self.note(layer.name, ops.ones((ops.shape(inputs)[0],)))
        return call(inputs, *args, **kwargs)


def test_a_layer_that_is_called_by_its_call_alone_is_observed_too():
    """As `TimeDistributed` does, also one within another."""
    inner = layers.Dense(3, name="inner")
    within = layers.TimeDistributed(layers.TimeDistributed(inner))
    model = keras.Sequential([keras.Input((2, 5, 8)), within])
    data = np.ones((4, 2, 5, 8), "float32")
    notes = observation.run(model, data, Counted(), verbose=0)
    assert notes["inner"][0].sum() == 4 * 2 * 5


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.LSTM(3),
        lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)]),
        lambda: layers.Bidirectional(layers.SimpleRNN(3)),
    ],
    ids=["lstm", "stacked", "bidirectional"],
)
def test_calls_in_a_loop_over_time_are_not_observed(make, quantized):
    model = keras.Sequential([keras.Input((5, 8)), make()])
    if quantized:
        qf.quantize(model, {"weight_quantizer": "ste_sign", "input_quantizer": "ste_sign"})
    seen = []

    class Seen(Observer):
        def on_layer(self, layer, call, *args, **kwargs):
            seen.append(type(layer).__name__)
            return call(*args, **kwargs)

    observation.run(model, np.ones((4, 5, 8), "float32"), Seen(), verbose=0)
    assert not [name for name in seen if name.endswith("Cell")]
    assert seen


def test_an_observer_changes_what_a_layer_goes_on_with():
    class Doubled(Observer):
        def on_layer(self, layer, call, *args, **kwargs):
            outputs = call(*args, **kwargs)
            if isinstance(layer, layers.Dense):
                outputs = 2 * outputs
            if isinstance(layer, keras.Model):
                self.note("all", outputs)
            return outputs

        def on_quantizer(self, quantizer, call, inputs, *args, **kwargs):
            return inputs

    sign = "ste_sign(clip_value=None)"
    dense = qf.layers.QuantDense(3, input_quantizer=sign, kernel_quantizer=sign)
    model = keras.Sequential([keras.Input((8,)), dense])
    (actual,) = observation.run(model, DATA, Doubled(), batch_size=4, verbose=0)["all"]
    expected = 2 * DATA @ dense.get_weights()[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_compiled_model_is_observed_as_in_an_eager_run():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)]
    )
    qf.quantize(model, {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_tern"})
    runs = []
    for options in ({"jit_compile": True}, {"run_eagerly": True, "jit_compile": False}):
        model.compile("sgd", "mse", **options)
        runs.append(observation.run(model, DATA, Both(model), verbose=0))
    compiled, eager = runs
    assert compiled.keys() == eager.keys() == {layer.name for layer in model.layers}
    for path, ends in eager.items():
        for a, b in zip(ends, compiled[path], strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-5)


def test_the_scope_of_the_caller_holds_in_the_steps():
    actual = []

    class Scoped(Observer):
        def on_layer(self, layer, call, *args, **kwargs):
            actual.append(context.current().frozen)
            return call(*args, **kwargs)

    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with context.scoped(frozen=True):
        observation.run(model, DATA, Scoped(), verbose=0)
    assert actual
    assert all(actual)
    assert context.current().observer is None


def test_a_run_leaves_nothing_behind():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    model.compile("sgd", "mse", jit_compile=False)
    expected = model.predict(DATA, verbose=0)
    function, before = model.predict_function, set(vars(model))

    class Broken(Observer):
        def on_layer(self, layer, call, *args, **kwargs):
            raise RuntimeError("oops")

    with pytest.raises(RuntimeError, match="oops"):
        observation.run(model, DATA, Broken(), verbose=0)
    assert model.predict_function is function
    assert set(vars(model)) == before
    assert all("call" not in vars(layer) for layer in (model, *model.layers))
    np.testing.assert_array_equal(model.predict(DATA, verbose=0), expected)


def test_no_data_is_an_error_that_says_for_what():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(DataError, match="the rounding data is empty"):
        observation.run(model, DATA[:0], Observer(), purpose="rounding", verbose=0)
