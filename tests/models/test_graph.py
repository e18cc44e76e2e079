"""The contract of the private Keras that profiles rest on."""

import keras
import numpy as np
from keras import layers

import qframe as qf
from qframe.models import graph


class Pair(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first, self.rest = layers.Dense(3), [layers.Dense(2)]

    def call(self, inputs):
        return self.rest[0](self.first(inputs))


def test_sublayers_in_order():
    pair = Pair()
    assert graph.sublayers(pair) == [pair.first, *pair.rest]
    assert graph.sublayers(layers.Dense(2)) == []


def test_build_shapes():
    pair = Pair()
    pair(np.zeros((2, 5), "float32"))
    assert graph.build_shapes(layers.Dense(2)) is None
    assert [tuple(s) for s in graph.build_shapes(pair.first).values()] == [(2, 5)]
    assert [tuple(s) for s in graph.build_shapes(pair.rest[0]).values()] == [(2, 3)]
    attention = layers.MultiHeadAttention(1, 2)
    attention(keras.Input((3, 4)), keras.Input((5, 4)))
    assert list(graph.build_shapes(attention)) == ["query_shape", "value_shape"]


def test_build_shapes_of_a_loaded_layer():
    layer = layers.Dense(2)
    layer.build((None, 5))
    copy = layers.Dense.from_config(layer.get_config())
    copy.build_from_config(layer.get_build_config())
    assert list(graph.build_shapes(copy).values()) == [(None, 5)]


def test_nodes_are_those_of_the_graph():
    inputs = keras.Input((5,))
    dense = layers.Dense(5)
    hidden = dense(inputs)
    model = keras.Model(inputs, dense(hidden))
    dense(model.output)
    function = graph.graph_of(model)
    nodes = list(graph.nodes(function))
    assert [node.operation for node in nodes][1:] == [dense, dense]
    assert [node.is_input for node in nodes] == [True, False, False]
    last = nodes[-1]
    assert last.arguments.args == (nodes[1].outputs[0],)
    assert last.arguments.kwargs == {}
    assert last.arguments.keras_tensors == [nodes[1].outputs[0]]
    assert last.outputs[0] is function.outputs[0]
    assert function.inputs == model.inputs


def test_graph_of_sequential_models():
    model = keras.Sequential([layers.Dense(2)])
    assert graph.graph_of(model) is None
    model(np.zeros((1, 3), "float32"))
    function = graph.graph_of(model)
    assert [node.operation for node in graph.nodes(function)][1:] == model.layers


def test_code_is_no_graph():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    assert graph.graph_of(Own()) is None
    assert graph.graph_of(layers.Dense(2)) is None
    assert not graph.runs_keras(Pair())


def test_quantized_layers_run_keras():
    assert graph.runs_keras(qf.layers.QuantDense(2))
    assert graph.runs_keras(layers.Dense(2))
