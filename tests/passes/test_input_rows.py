"""Rows of inputs that, times the matrix of a layer, are its outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from float_networks import IMAGE, TIME, VECTOR, VOLUME
from qframe.passes.equalization.input_rows import is_matrix, matrix, rows

ALL = 10_000
CASES = {
    "dense": (lambda: layers.Dense(3), VECTOR),
    "dense of time": (lambda: layers.Dense(3), TIME),
    "dense of an image": (lambda: layers.Dense(3), IMAGE),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", (None, 3)), TIME),
    "einsum of heads": (lambda: layers.EinsumDense("abcd,cde->abe", (None, 5)), IMAGE),
    "einsum of the middle": (lambda: layers.EinsumDense("abc,bd->acd", (4, 3)), TIME),
    "einsum elided": (lambda: layers.EinsumDense("...x,xy->...y", 3), TIME),
    "conv 1d": (lambda: layers.Conv1D(3, 2, strides=2), TIME),
    "causal": (lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2), TIME),
    "conv 2d": (lambda: layers.Conv2D(3, (2, 3), padding="same", strides=(2, 1)), IMAGE),
    "dilated": (lambda: layers.Conv2D(3, 3, padding="same", dilation_rate=2), IMAGE),
    "conv 3d": (lambda: layers.Conv3D(3, 2, padding="same", strides=2), VOLUME),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_times_the_matrix_are_what_keras_computes(case):
    make, shape = CASES[case]
    layer = make()
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    assert is_matrix(layer)
    kernel = matrix(layer, ops.convert_to_numpy(layer.kernel).astype(float))
    found = ops.convert_to_numpy(rows(layer, ops.convert_to_tensor(x), ALL)) @ kernel
    expected = y.reshape(2, -1, kernel.shape[1])
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


@pytest.mark.parametrize("case", [name for name in CASES if name != "dense"])
def test_fewer_rows_are_some_of_them(case):
    make, shape = CASES[case]
    layer = make()
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, *shape)), "float32")
    layer(x)
    whole, some = (ops.convert_to_numpy(rows(layer, x, count)) for count in (ALL, 2))
    assert some.shape == (2, 2, whole.shape[2])
    for example, part in zip(whole, some, strict=True):
        assert all(any((row == other).all() for other in example) for row in part)


def test_rows_of_sequences_of_unknown_length():
    layer = layers.Conv1D(3, 2, padding="same", strides=2)
    inputs = keras.Input((None, 4))
    layer(inputs)

    class Rows(layers.Layer):
        def call(self, x):
            return rows(layer, x, 3)

    model = keras.Model(inputs, Rows()(inputs))
    x = np.random.default_rng(0).normal(size=(2, 7, 4)).astype("float32")
    whole = ops.convert_to_numpy(rows(layer, ops.convert_to_tensor(x), ALL))
    some = model.predict(x, verbose=0)
    assert some.shape == (2, 3, 8)
    for example, part in zip(whole, some, strict=True):
        assert all(any((row == other).all() for other in example) for row in part)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Conv2D(4, 1, groups=2),
        lambda: layers.Conv2DTranspose(4, 2),
        lambda: layers.DepthwiseConv2D(2),
        lambda: layers.SeparableConv2D(4, 2),
        lambda: layers.EinsumDense("abc,c->abc", (6, 4)),
        lambda: layers.EinsumDense("abc,d->abd", (6, 4)),
        layers.ReLU,
    ],
)
def test_other_layers_are_not_one_matrix(make):
    assert not is_matrix(make())
