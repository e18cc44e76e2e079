"""Recurrent layers in a graph: what Keras computes, their integers, and what is refused."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.operations.recurring import GATES
from qframe.deployment.graph.reference import run, tensors_of
from qframe.deployment.graph.values import Value
from qframe.deployment.lowering import ExportTarget, lower
from qframe.deployment.lowering.functions import OPERATIONS
from qframe.errors import DataError, ExportError

pytestmark = [
    pytest.mark.ends,
    pytest.mark.two_backends,  # a graph is made of weights and configs
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
TARGET = ExportTarget("mine")
STEPS, FEATURES = 6, 4
F = np.float32
KINDS = {
    "lstm": layers.LSTM,
    "gru": lambda *args, **how: layers.GRU(*args, reset_after=False, **how),
    "gru_reset_after": layers.GRU,
    "simple_rnn": layers.SimpleRNN,
}
# Each with all steps and with the last one, in both directions, with biases and without.
OPTIONS = [
    {"return_sequences": True, "dropout": 0.5, "unroll": True},
    {"return_sequences": False, "use_bias": False},
    {"return_sequences": True, "go_backwards": True, "use_bias": False},
    {"return_sequences": False, "go_backwards": True, "recurrent_dropout": 0.5},
]


def built(*parts, shape=(STEPS, FEATURES)):
    """A model with random weights, and numbers for it."""
    model = keras.Sequential([keras.Input(shape), *parts])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.uniform(-0.7, 0.7, weight.shape))
    return model, rng.normal(size=(3, *shape)).astype(F)


def recurrences(graph):
    return [n.operation for n in graph.nodes if isinstance(n.operation, op.Recurrence)]


def assert_as_in_keras(model, x):
    graph = lower(model, TARGET)
    found = tensors_of(graph, x)[graph.outputs[0]]
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    assert found.shape == expected.shape
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale, rtol=1e-5)
    return graph


@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_layer_computes_what_keras_does(kind):
    for options in OPTIONS:
        graph = assert_as_in_keras(*built(KINDS[kind](3, **options)))
        assert [each.function for each in recurrences(graph)] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_activations_of_a_cell_are_those_of_keras(kind):
    """Each function in two cells, beside others for their gates."""
    names = [n for n in ["linear", *OPERATIONS] if hasattr(keras.activations, n)]
    place = [*KINDS].index(kind)
    for name, other in zip(names[place::2], names[::-1], strict=False):
        how = {"recurrent_activation": other} if kind != "simple_rnn" else {}
        graph = assert_as_in_keras(
            *built(KINDS[kind](2, activation=name, **how), shape=(3, FEATURES))
        )
        (loop,) = recurrences(graph)
        assert loop.activation is OPERATIONS.get(name)
        assert loop.gate is OPERATIONS.get(how.get("recurrent_activation"))


MODES = [*itertools.product(["concat", "sum", "mul", "ave"], [True, False])]


@pytest.mark.parametrize(("mode", "sequences"), MODES)
def test_two_directions_are_merged_as_in_keras(mode, sequences):
    """The default second layer, and another one, which reads forwards."""
    first = KINDS[[*KINDS][len(mode) % 2]](3, return_sequences=sequences)
    assert_as_in_keras(*built(layers.Bidirectional(first, merge_mode=mode)))
    first = layers.SimpleRNN(3, go_backwards=True, return_sequences=sequences)
    second = layers.LSTM(3, return_sequences=sequences)
    both = layers.Bidirectional(first, merge_mode=mode, backward_layer=second)
    assert_as_in_keras(*built(both))


def test_integers_of_kernels_reach_the_graph():
    """The products with the input are those of a dense layer, on integers."""
    gru = layers.Bidirectional(layers.GRU(3, return_sequences=True))
    norm = layers.LayerNormalization()
    model, x = built(norm, gru, layers.LSTM(2), layers.Dense(2))
    qf.quantize(model, "int8")
    qf.calibrate(model, x, verbose=0)
    graph = assert_as_in_keras(model, x)
    dense = [n.operation for n in graph.nodes if isinstance(n.operation, op.Dense)]
    assert all(isinstance(each.kernel, Kernel) for each in dense)
    values = graph.values()
    of_gru = [n for n in graph.nodes if n.name == gru.name and n.operation in dense]
    assert [values[n.inputs[0]].grid is not None for n in of_gru] == [True, True]
    for operation, layer in zip(
        recurrences(graph),
        (gru.forward_layer, gru.backward_layer, model.layers[2]),
        strict=True,
    ):
        expected = qf.integers(layer.cell)[f"{layer.cell.name}/recurrent_kernel"]
        np.testing.assert_array_equal(operation.kernel.integers(), expected.values.T)
        np.testing.assert_array_equal(operation.scale, expected.scale.squeeze())


def test_quantizers_of_inputs_and_biases_of_a_cell_are_kept():
    model, x = built(layers.GRU(3, return_sequences=True))
    word = "integer(bits=4, gather='widest')"
    cell = model.layers[0].cell
    rules = {"input": word, "bias": "integer(bits=3)", "kernel": "ste_sign"}
    settings = {f"{slot}_quantizer": value for slot, value in rules.items()}
    qf.quantize(model, qf.Recipe([(keras.layers.GRUCell, settings)]))
    assert {*cell.quantizers} == {*rules}
    qf.calibrate(model, x, verbose=0)
    graph = assert_as_in_keras(model, x)
    assert [n.operation.name for n in graph.nodes] == [
        *("quantize", "dense", "dequantize", "affine", "recurrence"),
    ]
    assert isinstance(recurrences(graph)[0].kernel, np.ndarray)


def with_state(layer, **call):
    x = keras.Input((STEPS, FEATURES), batch_size=2)
    return keras.Model(x, layer(x, **call))


def with_output_quantizer():
    model, _ = built(layers.LSTM(3, name="loop"))
    settings = {"output_quantizer": "ste_sign"}
    qf.quantize(model, qf.Recipe([(keras.layers.LSTMCell, settings)]))
    return model


class Doubled(layers.LSTMCell):
    def call(self, inputs, states, training=False):
        output, states = super().call(inputs, states, training)
        return 2 * output, states


def of_custom_cell():
    layer = layers.LSTM(3)
    layer.cell = Doubled(3)
    return built(layer)[0]


def returning_both():
    x = keras.Input((STEPS, FEATURES))
    layer = layers.Bidirectional(layers.LSTM(3), merge_mode=None)
    return keras.Model(x, layer(x))


REFUSED = {
    "stateful": (
        lambda: with_state(layers.GRU(3, stateful=True)),
        "Build it with stateful=False",
    ),
    "states": (
        lambda: with_state(layers.LSTM(3, return_state=True)),
        "Build it with return_state=False",
    ),
    "states of both": (
        lambda: with_state(layers.Bidirectional(layers.LSTM(3, return_state=True))),
        "Build it with return_state=False",
    ),
    "an initial state": (
        lambda: with_state(layers.GRU(3), initial_state=np.ones((2, 3), F)),
        "initial_state or a mask",
    ),
    "a mask": (
        lambda: with_state(layers.GRU(3), mask=np.ones((2, STEPS), bool)),
        "initial_state or a mask",
    ),
    "masking": (
        lambda: built(layers.Masking(), layers.GRU(3))[0],
        r"\(Masking\): it hides steps from later layers",
    ),
    "masked rows": (
        lambda: built(
            layers.Embedding(3, 2, mask_zero=True), layers.GRU(3), shape=(STEPS,)
        )[0],
        "mask_zero=True hides steps",
    ),
    "both outputs": (returning_both, "Build it with merge_mode='concat'"),
    "two functions": (
        lambda: built(layers.GRU(3, activation="selu"))[0],
        "its activation .*selu.* is not among linear, elu",
    ),
    "gates of a quantizer": (
        lambda: built(layers.LSTM(3, recurrent_activation=qf.quantizers.get("ste_sign")))[
            0
        ],
        "its recurrent_activation is the quantizer .* which acts within the loop",
    ),
    "states of integers": (with_output_quantizer, r"del layer\.cell\.quantizers\['output"),
    "a custom cell": (of_custom_cell, "Doubled overrides call"),
    "a layer of cells": (
        lambda: built(layers.RNN(layers.LSTMCell(3)))[0],
        r"\(RNN\): the target has no such cell.* Replace it with keras\.layers\.LSTM",
    ),
    "images": (
        lambda: built(layers.ConvLSTM1D(2, 2), shape=(3, 6, 2))[0],
        r"\(ConvLSTM1D\): the target has no such cell",
    ),
    "two directions of cells": (
        lambda: built(layers.Bidirectional(layers.RNN(layers.LSTMCell(3))))[0],
        r"\(Bidirectional\): the target has no such cell",
    ),
    "steps": (
        lambda: built(layers.TimeDistributed(layers.Dense(2)))[0],
        r"\(TimeDistributed\): .* Give the whole sequence to Dense",
    ),
    "half precision": (
        lambda: built(
            layers.Bidirectional(layers.LSTM(3, dtype="mixed_float16"), dtype="float32")
        )[0],
        "its cell computes in float16",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_loop_cannot_do_is_refused_with_the_cure(case):
    make, reason = REFUSED[case]
    with pytest.raises(ExportError, match=reason):
        lower(make(), TARGET)


def test_a_sample_has_the_same_bits_in_any_batch():
    rng = np.random.default_rng(0)
    tanh, gate = op.Activation("tanh"), op.Activation("softmax")
    for function, gates in GATES.items():
        kernel = rng.normal(size=(gates * 33, 33)).astype(F)
        how = {} if function == "simple_rnn" else {"gate": gate}
        loop = op.Recurrence(function, kernel, activation=tanh, **how)
        x = rng.normal(size=(9, 4, gates * 33)).astype(F)
        alone = np.concatenate([run(loop, x[i : i + 1]) for i in range(9)])
        np.testing.assert_array_equal(run(loop, x), alone)
        assert not len(run(loop, x[:0]))


ONES = np.ones((8, 2), F)
INVALID = {
    "a kernel of another cell": (op.Recurrence("gru", ONES), "has 6 sums, and its kernel"),
    "other sums": (op.Recurrence("simple_rnn", ONES[:2]), "takes steps of 2 sums, found"),
    "two scales": (op.Recurrence("lstm", Kernel(ONES.astype(int), F(2))), "another field"),
    "scales of units": (op.Recurrence("lstm", ONES, scale=ONES[0]), r"shape \[2\] for 8"),
    "a bias": (op.Recurrence("lstm", ONES, bias=ONES[:, 0]), "is that of its input"),
    "a gate": (
        op.Recurrence("simple_rnn", np.ones((8, 8), F), gate=op.Activation("tanh")),
        "has no gates",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_recurrence_is_refused(case):
    operation, reason = INVALID[case]
    with pytest.raises(DataError, match=reason):
        operation.infer(Value((5, 8)))
