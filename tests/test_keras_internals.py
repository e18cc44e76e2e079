"""The contract with private Keras: what qframe leans on, on every Keras in the matrix."""

import copy
import gc
import pickle
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.trainers.trainer import Trainer

import qframe as qf
from qframe import keras_internals


def test_latent_value_ignores_the_autocast_of_the_call():
    seen = []

    class Probe(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(name="w", shape=())

        def call(self, x):
            for value in (self.w + 0, keras_internals.latent_value(self.w)):
                seen.append(keras.backend.standardize_dtype(value.dtype))
            return x

    Probe(dtype="mixed_float16")(np.ones((1, 1), "float32"))
    assert seen == ["float16", "float32"]


def test_latent_value_is_a_tensor_with_the_value():
    variable = keras.Variable([1.0, 2.0])
    value = keras_internals.latent_value(variable)
    assert keras.ops.is_tensor(value)
    assert not hasattr(value, "assign")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(value), [1, 2])


def test_bytes_round_trip_of_a_layer():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    again = keras_internals.from_bytes(keras_internals.to_bytes(layer))
    for a, b in zip(again.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_auto_name_counts_up():
    keras.utils.clear_session()
    names = [keras_internals.auto_name("QuantThing") for _ in range(2)]
    assert names == ["quant_thing", "quant_thing_1"]


def test_post_build_runs_after_build_while_variables_can_be_added():
    class Late(keras.layers.Dense):
        def _post_build(self):
            assert self.kernel is not None
            assert next(iter(self._build_shapes_dict.values())) == (None, 3)
            self.late = self.add_weight(name="late", shape=())
            super()._post_build()

    layer = Late(2)
    layer.build((None, 3))
    assert any(v is layer.late for v in layer.trainable_variables)


def test_weight_files_are_keyed_by_the_class_name(tmp_path):
    class Dense(keras.layers.Dense):
        pass

    other = keras.Sequential([keras.Input((2,)), Dense(3, name="another")])
    other.save_weights(tmp_path / "w.weights.h5")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


class Pair(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first, self.rest = layers.Dense(3), [layers.Dense(2)]

    def call(self, inputs):
        return self.rest[0](self.first(inputs))


def test_sublayers_in_order():
    pair = Pair()
    assert keras_internals.sublayers(pair) == [pair.first, *pair.rest]
    assert keras_internals.sublayers(layers.Dense(2)) == []


def test_direct_weights():
    class Scaled(Pair):
        def build(self, shape):
            self.scale = self.add_weight(name="scale", shape=())
            self.count = self.add_weight(name="count", shape=(), trainable=False)

    scaled = Scaled()
    scaled(np.zeros((2, 5), "float32"))
    assert len(scaled.trainable_variables) == 5
    scaled.trainable = False
    assert [id(v) for v in keras_internals.direct_weights(scaled)] == [id(scaled.scale)]


def test_build_shapes():
    pair = Pair()
    pair(np.zeros((2, 5), "float32"))
    assert keras_internals.build_shapes(layers.Dense(2)) is None
    assert [tuple(s) for s in keras_internals.build_shapes(pair.first).values()] == [(2, 5)]
    assert [tuple(s) for s in keras_internals.build_shapes(pair.rest[0]).values()] == [
        (2, 3)
    ]
    attention = layers.MultiHeadAttention(1, 2)
    attention(keras.Input((3, 4)), keras.Input((5, 4)))
    assert list(keras_internals.build_shapes(attention)) == ["query_shape", "value_shape"]


def test_build_shapes_of_a_loaded_layer():
    layer = layers.Dense(2)
    layer.build((None, 5))
    copy = layers.Dense.from_config(layer.get_config())
    copy.build_from_config(layer.get_build_config())
    assert list(keras_internals.build_shapes(copy).values()) == [(None, 5)]


def test_nodes_are_those_of_the_graph():
    inputs = keras.Input((5,))
    dense = layers.Dense(5)
    hidden = dense(inputs)
    model = keras.Model(inputs, dense(hidden))
    dense(model.output)
    function = keras_internals.graph_of(model)
    nodes = list(keras_internals.nodes(function))
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
    assert keras_internals.graph_of(model) is None
    model(np.zeros((1, 3), "float32"))
    function = keras_internals.graph_of(model)
    assert [node.operation for node in keras_internals.nodes(function)][1:] == model.layers


def test_code_is_no_graph():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    assert keras_internals.graph_of(Own()) is None
    assert keras_internals.graph_of(layers.Dense(2)) is None
    assert not keras_internals.runs_keras(Pair())


def test_quantized_layers_run_keras():
    assert keras_internals.runs_keras(qf.layers.QuantDense(2))
    assert keras_internals.runs_keras(layers.Dense(2))


def test_optimizers_count_their_calls_and_hold_what_they_train_in_order():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    variables = [keras.Variable(np.full(2, i, "float32")) for i in range(3)]
    optimizer.build(variables)
    assert [id(v) for v in keras_internals.trained_variables(optimizer)] == [
        *map(id, variables)
    ]
    for steps in range(3):
        assert int(keras_internals.steps_of(optimizer)) == steps
        optimizer.apply([keras.ops.ones(2)] * 3)
    assert int(optimizer.iterations) == 1


def test_takes_training_is_what_fit_asks():
    class Plain(keras.Model):
        def call(self, x):
            return x

    class Trained(keras.Model):
        def call(self, x, training=None):
            return x

    assert not keras_internals.takes_training(Plain())
    assert keras_internals.takes_training(Trained())
    assert keras_internals.takes_training(keras.Sequential([keras.Input((1,))]))


class OfCode(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)


class OfGraph(keras.Model):
    def __init__(self, **kwargs):
        x = keras.Input((2,))
        super().__init__(x, layers.Dense(1)(x), **kwargs)


def test_models_that_trace_are_known_however_they_came_about(tmp_path):
    sequential = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    sequential.save(tmp_path / "model.keras")
    models = [
        sequential,
        keras.Model(sequential.inputs, sequential.outputs),
        OfCode(),
        OfGraph(),
        keras.models.clone_model(sequential),
        keras.Sequential.from_config(sequential.get_config()),
        keras.models.load_model(tmp_path / "model.keras"),
        pickle.loads(pickle.dumps(sequential)),
        copy.copy(sequential),
        copy.deepcopy(sequential),
    ]

    def tracing():
        return {id(model) for model in keras_internals.tracing_models()}

    assert not tracing() & set(map(id, models))
    for model in models:
        model.predict(np.ones((1, 2), "float32"), verbose=0)
    assert tracing() >= set(map(id, models))
    gone = [weakref.ref(model) for model in models]
    del sequential, model, models
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)


def test_models_made_before_qframe_was_imported_are_known(monkeypatch):
    # What it does then, done once more; the wrapped method goes with the test.
    monkeypatch.setattr(Trainer, "__init__", Trainer.__init__)
    models = [keras.Sequential([keras.Input((2,)), layers.Dense(1)]), OfCode()]
    known = keras_internals.training._models()
    assert set(known) >= set(map(id, models))


class Reader(layers.Layer):
    """A layer that calls one, and reads another one's weight."""

    def __init__(self, called, read, fails=False):
        super().__init__()
        self.called, self.read, self.fails = called, read, fails

    def call(self, x):
        y = self.called(x)
        total = keras.ops.sum(self.read.kernel)
        if self.fails:
            raise RuntimeError("no call without numbers")
        return y + total + keras_internals.latent_value(self.w)

    def build(self, shape):
        self.w = self.add_weight(shape=())


@pytest.mark.parametrize("fails", [False, True])
def test_variables_that_code_reads_are_known_without_numbers(fails):
    called, read = layers.Dense(3), layers.Dense(3)
    reader = Reader(called, read, fails)
    x = keras.KerasTensor((None, 3))
    for layer in (called, read, reader):
        layer.build((None, 3))
    actual, whole = keras_internals.variables_read(reader, (x,), {}, lambda: False)
    assert whole == (not fails)
    assert {(id(variable), *map(id, readers)) for variable, readers in actual} == {
        (id(read.kernel), id(reader))
    }
    assert keras_internals.variables_read(reader, (x,), {}, lambda: True) == ([], not fails)
    assert all(np.isfinite(weight).all() for weight in reader.get_weights())


class Recorded:
    """An observer that records the arguments of each call."""

    def __init__(self):
        self.calls = []

    def layer_called(self, layer, call, *args, **kwargs):
        self.calls.append((layer, args, kwargs))
        return call(*args, **kwargs)


class Direct(layers.Layer):
    """A layer that runs the method `call` of the layers in it."""

    def __init__(self):
        super().__init__()
        self.dense, self.normalize = layers.Dense(2), layers.BatchNormalization()

    def build(self, shape):
        self.dense.build(shape)
        self.normalize.build((None, 2))

    def call(self, x, training=None):
        return self.normalize.call(self.dense.call(x), training=training)


def test_calls_of_a_model_are_observed_however_they_are_made_and_alone_in_a_scope():
    direct, inner = Direct(), layers.Dense(2)
    over_time = layers.TimeDistributed(inner)
    x = keras.Input((4, 3))
    model = keras.Model(x, direct(over_time(layers.Masking()(x))))
    data, observer = np.ones((1, 4, 3)), Recorded()
    expected = model(data)
    before = dict(vars(direct)), dict(vars(model))

    def check(call):
        observer.calls.clear()
        with qf.context.scoped(observer=observer):
            outputs = call()
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (outputs, expected)))
        # The layer in `TimeDistributed` is called at each step.
        order = {id(layer): layer for layer, *_ in observer.calls}.values()
        wanted = [model, over_time, inner, direct, direct.dense, direct.normalize]
        assert [id(layer) for layer in order if layer in wanted] == [*map(id, wanted)]
        ((_, kwargs),) = (c[1:] for c in observer.calls if c[0] is direct.normalize)
        assert kwargs["training"] is False

    state = model.trainable_variables, model.non_trainable_variables
    with keras_internals.calls_observed(model):
        check(lambda: model(data, training=False))
        check(lambda: model.call(data, training=False))
        check(lambda: model.stateless_call(*state, data, training=False)[0])
        with keras_internals.calls_observed(model):
            check(lambda: model(data, training=False))
        check(lambda: model(data, training=False))
        observer.calls.clear()
        model(data)
        assert observer.calls == []
        # A symbolic call passes as it is.
        y = keras.Input((4, 3))
        assert keras.Model(y, model(y)).built
    assert (dict(vars(direct)), dict(vars(model))) == before


def test_a_method_of_one_layer_is_observed_and_comes_back():
    layer = layers.Dense(2)
    layer.build((None, 3))
    doubled, observer = layer.call, Recorded()

    def call(x):
        return 2 * doubled(x)

    layer.call = call
    model, x = keras.Sequential([keras.Input((3,)), layer]), np.ones((1, 3))
    expected = keras.ops.convert_to_numpy(model(x))
    with keras_internals.calls_observed(model), qf.context.scoped(observer=observer):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)
    assert any(called is layer for called, *_ in observer.calls)
    assert layer.call is call


def test_calls_in_code_are_nodes_of_the_layers_and_operations_that_it_calls():
    class Inner(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.seen = []

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x, training=False):
            self.seen.append(training)
            return keras.ops.relu(self.dense(x))

    class Outer(Inner):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def build(self, shape):
            super().build(shape)
            self.inner.build((*shape[:-1], 3))

        def call(self, x, training=False):
            return self.inner(super().call(x)) * 2

    outer = Outer()
    graph = keras.Model(tensor := keras.Input((2,)), outer(tensor))
    kept = [list(part._inbound_nodes) for part in (outer, outer.dense, outer.inner)]
    seen = list(outer.seen)
    x = keras.Input(batch_shape=(4, 2))
    opened = [outer, outer.inner]
    nodes, (output,) = keras_internals.calls_in_code(outer, (x,), {}, opened, True)
    by_layer = {id(node.operation): node for node in nodes}
    kinds = sorted(type(node.operation).__name__ for node in nodes)
    assert kinds == ["Dense", "Dense", "Inner", "Multiply", "Outer", "Relu", "Relu"]
    assert by_layer[id(outer.dense)].arguments.keras_tensors == [x]
    inner = by_layer[id(outer.inner)].outputs[0]
    (multiply,) = [n for n in nodes if type(n.operation).__name__ == "Multiply"]
    assert multiply.arguments.keras_tensors == [inner]
    assert multiply.outputs[0] is output
    assert tuple(output.shape) == (4, 3)
    for part, before in zip((outer, outer.dense, outer.inner), kept, strict=True):
        assert list(part._inbound_nodes) == before
        assert "compute_output_spec" not in vars(part)
    assert outer.seen == seen
    assert graph(np.ones((1, 2))).shape == (1, 3)
