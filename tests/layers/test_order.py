"""The variables of a layer have one order, however its slots were filled."""

import copy

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from examples import settings
from qframe.layers.adapters import slot_attribute

SLOTS = {
    "input": "integer(gather='widest')",
    "kernel": "lsq",
    "bias": "pact",
    "output": "lsq_plus",
}
X = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


def model_of(order, fill):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3)])
    dense = model.layers[0]
    if fill == "at once":
        qf.quantize(model, {slot_attribute(slot): SLOTS[slot] for slot in order})
        return model
    qf.quantize(model, {slot_attribute(order[0]): SLOTS[order[0]]})
    for slot in order[1:]:
        dense.quantizers[slot] = SLOTS[slot]
    return model


def names(model):
    """The variables by slot and name."""
    (dense,) = model.layers
    owners = {id(v): s for s, q in dense.quantizers.items() for v in q.variables}
    return [(owners.get(id(v)), v.name) for v in dense.variables]


@given(
    order=st.permutations(list(SLOTS)),
    count=st.integers(1, len(SLOTS)),
    fill=st.sampled_from(["at once", "one by one"]),
)
@settings(max_examples=8)
def test_one_order(order, count, fill):
    order = order[:count]
    model = model_of(order, fill)
    canonical = [s for s in model.layers[0].adapter.slots if s in order]
    actual = [slot for slot, _ in names(model) if slot is not None]
    assert list(dict.fromkeys(actual)) == canonical
    assert [slot for slot, _ in names(model)][:2] == [None, None]
    assert names(model) == names(model_of(canonical, "at once"))


@pytest.mark.parametrize("order", [["kernel", "input"], ["input", "kernel"]])
def test_weights_fit_any_copy(order, tmp_path):
    model = model_of(order, "one by one")
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(X, X[:, :3], verbose=0)
    model.save(tmp_path / "m.keras")
    copies = [
        qf.load_model(tmp_path / "m.keras"),
        keras.models.clone_model(model),
        copy.deepcopy(model),
        model_of(order[::-1], "at once"),
        type(model).from_config(model.get_config()),
    ]
    expected = model.predict(X, verbose=0)
    for each in copies:
        each(X)
        each.set_weights(model.get_weights())
        # Not to the bit on JAX, which compiles for each model apart.
        np.testing.assert_allclose(each.predict(X, verbose=0), expected, 1e-5, 1e-6)
