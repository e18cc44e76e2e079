"""The contract with private Keras: what qframe leans on, on every Keras in the matrix."""

import keras
import numpy as np

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
