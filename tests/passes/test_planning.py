"""Which layers a plan has a row for, and what it says of those without an adapter."""

import keras
import pytest
from keras import layers

import qframe as qf

SIGN = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


class Scaled(layers.Layer):
    """A layer around a Dense, with an additional weight or only that of the Dense."""

    def __init__(self, own, **kwargs):
        super().__init__(**kwargs)
        self.own = own
        self.dense = layers.Dense(2, name="dense")

    def build(self, shape):
        self.dense.build(shape)
        self.matrix = self.add_weight(shape=(2,)) if self.own else self.dense.kernel

    def call(self, x):
        return self.dense(x) * self.matrix[0]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_a_layer_with_weights_of_its_own_has_a_row(own, frozen):
    model = keras.Sequential([keras.Input((3,)), Scaled(own, name="scaled")])
    model.trainable = not frozen
    reasons = {row.path: row.reason for row in qf.plan(model, SIGN).rows}
    assert reasons.pop("scaled/dense") == ""
    if own:
        line = "qframe.register_layer(Scaled, kernel='matrix')"
        assert reasons.pop("scaled") == f"its weights are not known; write {line}"
    assert reasons == {}


def test_layers_without_weights_to_learn_have_no_row():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, name="dense"),
            layers.Normalization(mean=[0.0, 0.0], variance=[1.0, 1.0]),
            layers.BatchNormalization(center=False, scale=False),
            layers.Dropout(0.5),
            layers.ReLU(),
        ]
    )
    assert [row.path for row in qf.plan(model, SIGN).rows] == ["dense"]
