"""Training that stops, is saved, and goes on in another object or process: to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import binary_model
import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError
from qframe.optimizers import Bop, CaseOptimizer


@keras.saving.register_keras_serializable("test_reload")
def is_bias(variable):
    return "bias" in variable.path


@keras.saving.register_keras_serializable("test_reload")
class Contains:
    """A predicate with a parameter."""

    def __init__(self, text):
        self.text = text

    def __call__(self, variable):
        return self.text in variable.path

    def get_config(self):
        return {"text": self.text}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def is_gamma(variable):
    return "gamma" in variable.path


def many():
    """Optimizers with every kind of predicate and state."""
    # On JAX Keras cannot fit a second time with such averages, with any optimizer.
    averages = keras.backend.backend() != "jax"
    return CaseOptimizer(
        (Bop.is_binary_variable, Bop(1e-3, 0.5, gradient_accumulation_steps=2)),
        (is_bias, keras.optimizers.SGD(0.1, momentum=0.9)),
        (Contains("beta"), keras.optimizers.Adam(0.1, use_ema=averages)),
        default_optimizer=keras.optimizers.AdamW(0.1, weight_decay=0.1, clipnorm=0.1),
        name="many",
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("given", [binary_model.optimizer, many])
def test_a_saved_model_trains_on_to_the_bit(given, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = binary_model.train(binary_model.model(given()))
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    binary_model.assert_same(model, again)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    before = binary_model.state(model)
    binary_model.assert_same(binary_model.train(model), binary_model.train(again))
    assert any(
        (a != b).any() for a, b in zip(before, binary_model.state(model), strict=True)
    )


def test_a_file_of_weights_trains_on_to_the_bit(tmp_path):
    model = binary_model.train(binary_model.model())
    model.save_weights(tmp_path / "m.weights.h5")
    again = binary_model.model()
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "m.weights.h5")
    binary_model.assert_same(model, again)
    binary_model.assert_same(binary_model.train(model), binary_model.train(again))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
def test_a_checkpoint_of_tensorflow_trains_on_to_the_bit(tmp_path):
    import tensorflow as tf

    model = binary_model.train(binary_model.model())
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = saved.write(str(tmp_path / "m"))
    again = binary_model.model()
    again.optimizer.build(again.trainable_variables)
    actual = tf.train.Checkpoint(model=again, optimizer=again.optimizer).read(path)
    actual.assert_consumed()
    binary_model.assert_same(model, again)
    binary_model.assert_same(binary_model.train(model), binary_model.train(again))


def test_changed_hyperparameters_are_saved(tmp_path):
    model = binary_model.model(many())
    bop = model.optimizer.optimizers[0]
    bop.gamma, bop.threshold = 0.125, 0.25
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras").optimizer.optimizers[0]
    assert (float(again.gamma), float(again.threshold)) == (0.125, 0.25)


def test_bop_alone_is_saved(tmp_path):
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(3, use_bias=False)], name="whole"
    )
    model.compile(Bop(1e-3, 0.5), "mse", **WITHOUT_XLA)
    binary_model.train(model).save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    binary_model.assert_same(binary_model.train(model), binary_model.train(again))


def test_functions_that_are_not_registered_are_custom_objects(tmp_path):
    given = CaseOptimizer((is_gamma, "sgd"), default_optimizer="adam")
    model = binary_model.train(binary_model.model(given))
    model.save(tmp_path / "m.keras")
    objects = {"is_gamma": is_gamma}
    again = qf.load_model(tmp_path / "m.keras", custom_objects=objects)
    assert list(again.optimizer.predicates) == [is_gamma]
    binary_model.assert_same(binary_model.train(model), binary_model.train(again))


class Owner:
    def owns(self, variable):
        return True


@pytest.mark.parametrize("predicate", [lambda variable: True, Owner().owns, Contains])
def test_predicates_without_a_name_are_not_saved(predicate, tmp_path):
    model = binary_model.model(CaseOptimizer((predicate, "sgd")))
    with pytest.raises(ArgumentError, match="cannot be saved"):
        model.save(tmp_path / "m.keras")


def test_predicates_that_are_not_known():
    config = many().get_config()
    config["predicates"][1] = {
        **config["predicates"][1],
        "config": "gone",
        "module": "gone",
        "registered_name": "mine>gone",
    }
    with pytest.raises(ArgumentError, match=r"'mine>gone'.*custom_objects"):
        CaseOptimizer.from_config(config)


def test_the_state_of_another_optimizer_is_not_taken(tmp_path):
    model = binary_model.train(binary_model.model(keras.optimizers.Adam()))
    model.save_weights(tmp_path / "m.weights.h5")
    again = binary_model.model()
    again.optimizer.build(again.trainable_variables)
    with pytest.warns(UserWarning, match="starts again"):
        again.load_weights(tmp_path / "m.weights.h5")
    assert int(again.optimizer.iterations) == 0


SCRIPT = """
import sys

import numpy as np

import binary_model
import qframe as qf

model = binary_model.train(qf.load_model(sys.argv[1]))
np.savez(sys.argv[2], *binary_model.state(model))
"""


@pytest.mark.long
def test_a_saved_model_trains_on_in_a_fresh_process(tmp_path):
    model = binary_model.train(binary_model.model())
    model.save(tmp_path / "m.keras")
    helpers = str(Path(binary_model.__file__).parent)
    path = os.pathsep.join([helpers, *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "m.keras", tmp_path / "found.npz"],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    binary_model.train(model)
    with np.load(tmp_path / "found.npz") as actual:
        for name, expected in zip(actual.files, binary_model.state(model), strict=True):
            np.testing.assert_array_equal(actual[name], expected)
