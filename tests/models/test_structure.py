"""Shared layers, nested models, wrappers and models whose call is code."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf


def rows(model):
    """name -> (parameters, MACs)."""
    profile = qf.models.profile(model)
    assert len({layer.name for layer in profile.layers}) == len(profile.layers)
    return {
        layer.name: (layer.parameter_count(), layer.mac_count()) for layer in profile.layers
    }


class Block(layers.Layer):
    """Two layers called by code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(4, name="first")
        self.second = layers.Dense(2, name="second")

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_shared_layer():
    one, many = keras.Input((5,)), keras.Input((3, 5))
    shared = layers.Dense(2, name="shared")
    model = keras.Model([one, many], [shared(one), shared(many), shared(one)])
    actual = rows(model)
    assert actual["shared"] == (5 * 2 + 2, (1 + 3 + 1) * 5 * 2)
    profile = qf.models.profile(model).layers[-1]
    assert profile.output_shapes == ((None, 2), (None, 3, 2))


def test_only_calls_of_this_model_count():
    inputs = keras.Input((5,))
    shared = layers.Dense(5, name="shared")
    hidden = shared(inputs)
    small = keras.Model(inputs, hidden)
    large = keras.Model(inputs, shared(hidden))
    shared(keras.Input((9, 5)))
    assert rows(small)["shared"][1] == 25
    assert rows(large)["shared"][1] == 50


def test_model_cut_out_of_the_middle_of_another():
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, name="before")(inputs)
    output = layers.Dense(3, name="after")(hidden)
    assert rows(keras.Model(hidden, output))["after"] == (15, 12)
    assert "before" not in rows(keras.Model(hidden, output))


def test_nested_two_deep():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")], name="inner")
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, name="d")(inputs)
    middle = keras.Model(inputs, inner(hidden), name="middle")
    model = keras.Sequential([keras.Input((5,)), middle, layers.Dense(2, name="d")])
    assert rows(model) == {
        "middle/d": (24, 20),
        "middle/inner/d": (15, 12),
        "d": (8, 6),
    }


def test_nested_model_called_with_two_shapes():
    inner = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")], name="net"
    )
    small, large = keras.Input((5, 5, 1)), keras.Input((9, 8, 1))
    outputs = [
        layers.Flatten(name="small")(inner(small)),
        layers.Flatten(name="large")(inner(large)),
    ]
    actual = rows(keras.Model([small, large], outputs))
    assert actual["net/conv"] == (20, (3 * 3 + 7 * 6) * 18)


def test_nested_model_called_with_a_dictionary():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    outputs = [layers.Dense(5, name="of_b")(b), layers.Dense(5, name="of_a")(a)]
    inner = keras.Model({"b": b, "a": a}, outputs, name="inner")
    x, y = keras.Input((2,)), keras.Input((3,))
    actual = rows(keras.Model([x, y], inner({"b": y, "a": x})))
    assert actual["inner/of_a"][1] == 10
    assert actual["inner/of_b"][1] == 15


def test_layer_shared_by_two_nested_models():
    shared = layers.Dense(4, name="shared")
    encoder = keras.Sequential([keras.Input((4,)), shared], name="encoder")
    decoder = keras.Sequential([keras.Input((4,)), shared], name="decoder")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, decoder(encoder(inputs)))
    actual = rows(model)
    assert actual["encoder/shared"] == (20, 2 * 16)
    assert "decoder/shared" not in actual
    assert qf.models.profile(model).parameter_count() == model.count_params() == 20


def test_variable_shared_by_two_layers():
    class Tied(layers.Layer):
        """Goes back through the kernel of another layer."""

        def __init__(self, other, **kwargs):
            super().__init__(**kwargs)
            self.kernel = other.kernel

        def call(self, inputs):
            return inputs @ keras.ops.transpose(self.kernel)

    inputs = keras.Input((4,))
    dense = layers.Dense(3, name="dense")
    hidden = dense(inputs)
    model = keras.Model(inputs, Tied(dense, name="tied")(hidden))
    assert rows(model)["dense"] == (15, 12)
    assert rows(model)["tied"] == (0, None)
    assert qf.models.profile(model).parameter_count() == model.count_params() == 15


def test_input_layers():
    inputs = keras.Input((4,), name="image")
    functional = keras.Model(inputs, layers.Dense(2, name="dense")(inputs))
    assert list(rows(functional)) == ["image", "dense"]
    assert qf.models.profile(functional).layers[0].output_shapes == ((None, 4),)
    sequential = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="dense")])
    assert list(rows(sequential)) == ["dense"]


@pytest.fixture
def subclassed():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="subclassed")
            self.block = Block(name="block")
            self.tail = keras.Sequential([layers.Dense(3, name="dense")], name="tail")

        def call(self, inputs):
            return self.tail(self.block(inputs))

    return Subclassed()


def test_model_whose_call_is_code(subclassed):
    subclassed(np.zeros((2, 5), "float32"))
    assert rows(subclassed) == {
        "block/first": (24, 20),
        "block/second": (10, 8),
        "tail/dense": (9, 6),
    }
    profile = qf.models.profile(subclassed)
    assert [layer.output_shapes for layer in profile.layers] == [
        ((None, 4),),
        ((None, 2),),
        ((None, 3),),
    ]


def test_layer_that_is_not_called():
    class Spare(Block):
        def call(self, inputs):
            return self.first(inputs)

    inputs = keras.Input((5,))
    profile = qf.models.profile(keras.Model(inputs, Spare(name="block")(inputs)))
    spare = profile.layers[-1]
    assert spare.name == "block/second"
    assert not spare.built
    assert spare.parameter_count() is spare.memory is spare.mac_count() is None
    assert profile.parameter_count() is profile.memory is profile.float_memory is None


def test_block_in_a_functional_model():
    inputs = keras.Input((5,))
    block = Block(name="block")
    actual = rows(keras.Model(inputs, block(inputs)))
    assert actual["block/first"] == (24, 20)
    twice = keras.Model(inputs, [block(inputs), block(inputs)])
    assert rows(twice)["block/first"] == (24, 40)


def test_block_called_with_another_shape_is_not_known():
    one, many = keras.Input((5,)), keras.Input((3, 5))
    block = Block(name="block")
    actual = rows(keras.Model([one, many], [block(one), block(many)]))
    assert actual["block/first"] == (24, None)


def test_block_with_weights_of_its_own():
    class Shifted(Block):
        def build(self, input_shape):
            super().build(input_shape)
            self.first.build(input_shape)
            self.second.build((None, 4))
            self.shift = self.add_weight(shape=(2,), name="kernel")

        def call(self, inputs):
            return super().call(inputs) + self.shift

    inputs = keras.Input((5,))
    actual = rows(keras.Model(inputs, Shifted(name="block")(inputs)))
    assert actual["block"] == (2, None)
    assert actual["block/first"] == (24, 20)


def test_weights_of_a_subclassed_model():
    class Shifted(keras.Model):
        def __init__(self):
            super().__init__(name="shifted")
            self.dense = layers.Dense(2, name="dense")
            self.shift = self.add_weight(shape=(2,), name="shift")

        def call(self, inputs):
            return self.dense(inputs) + self.shift

    model = Shifted()
    model(np.zeros((1, 5), "float32"))
    assert rows(model) == {"shifted": (2, None), "dense": (12, 10)}


def test_weights_beside_the_graph_of_a_functional_model():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(inputs), name="model")
    model.extra = layers.Dense(3)
    model.extra.build((None, 2))
    assert qf.models.profile(model).parameter_count() == model.count_params()
    if model.count_params() > 12:  # older Keras does not look beside the graph
        assert rows(model)["model"] == (9, None)


def test_single_layer():
    layer = layers.Dense(2, name="dense")
    layer.build((None, 5))
    assert rows(layer) == {"dense": (12, 10)}


def test_time_distributed():
    inputs = keras.Input((6, 5))
    wrapper = layers.TimeDistributed(layers.Dense(2, name="dense"), name="each")
    assert rows(keras.Model(inputs, wrapper(inputs)))["each/dense"] == (12, 6 * 10)


def test_time_distributed_model():
    inner = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 3, name="conv"), layers.Flatten()],
        name="net",
    )
    inputs = keras.Input((6, 4, 4, 1))
    model = keras.Model(inputs, layers.TimeDistributed(inner, name="each")(inputs))
    assert rows(model)["each/net/conv"] == (20, 6 * 4 * 18)


def test_bidirectional():
    inputs = keras.Input((6, 5))
    wrapper = layers.Bidirectional(layers.LSTM(3, name="lstm"), name="both")
    actual = rows(keras.Model(inputs, wrapper(inputs)))
    one_way = 6 * (5 + 3) * 3 * 4
    del actual[next(iter(actual))]
    assert [macs for _, macs in actual.values()] == [one_way, one_way]
    assert all(name.startswith("both/") for name in actual)


def test_spectral_normalization():
    inputs = keras.Input((5,))
    wrapper = layers.SpectralNormalization(layers.Dense(2, name="dense"), name="norm")
    actual = rows(keras.Model(inputs, wrapper(inputs)))
    assert actual["norm/dense"] == (12, 10)
    assert actual["norm"] == (2, 0)  # its estimate of a singular vector


def test_layer_twice_in_a_sequential_model():
    shared = layers.Dense(5, name="shared")
    model = keras.Sequential([keras.Input((5,)), shared, layers.ReLU(), shared])
    assert rows(model)["shared"] == (30, 50)


def test_functional_subclass_with_a_call_of_its_own():
    class Twice(keras.Model):
        def __init__(self):
            inputs = keras.Input((5,))
            super().__init__(inputs, layers.Dense(5, name="dense")(inputs))

        def call(self, inputs):
            return 2 * super().call(inputs)

    assert rows(Twice())["dense"] == (30, 25)


def test_profile_leaves_the_model_alone():
    inputs = keras.Input((None, 5))
    inner = keras.Sequential([keras.Input((None, 5)), layers.Dense(2)])
    model = keras.Model(inputs, inner(inputs))
    config, calls = model.get_config(), len(inner.layers[0]._inbound_nodes)
    qf.models.profile(model)
    assert model.get_config() == config
    assert len(inner.layers[0]._inbound_nodes) == calls


@pytest.mark.parametrize("thing", [None, "model.keras", {}, keras.layers.Dense])
def test_not_a_model(thing):
    with pytest.raises(qf.errors.ArgumentError, match="Keras model or layer"):
        qf.models.summary(thing)


def test_not_built(subclassed):
    unbuilt = keras.Sequential([layers.Dense(2)], name="net")
    with pytest.raises(qf.errors.NotBuiltError, match=r"net\.build\(input_shape\)"):
        qf.models.summary(unbuilt)
    with pytest.raises(qf.errors.NotBuiltError):
        qf.models.profile(layers.Dense(2))
    # Keras calls this one built.
    subclassed.built = True
    with pytest.raises(qf.errors.NotBuiltError, match="on data"):
        qf.models.profile(subclassed)


def test_model_without_weights():
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()], name="plain")
    profile = qf.models.profile(model)
    assert profile.parameter_count() == profile.memory == profile.mac_count() == 0
    printed = []
    qf.models.summary(model, print_fn=printed.append)
    assert printed[1].split("Memory")[1].split()[0] == "0.00"
