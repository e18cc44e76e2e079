"""The network of the tutorial, trained a little, on all test images of MNIST."""

import keras
import numpy as np
import pytest

import qframe as qf
from packed_graphs import names_of

SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


FIRST = {**SIGNS, "input_quantizer": None}


def tutorial():
    norm, pool = keras.layers.BatchNormalization, keras.layers.MaxPooling2D
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            qf.layers.QuantConv2D(
                32, 3, use_bias=False, **{**SIGNS, "input_quantizer": None}
            ),
            pool(),
            norm(scale=False),
            qf.layers.QuantConv2D(64, 3, use_bias=False, **SIGNS),
            pool(),
            norm(scale=False),
            qf.layers.QuantConv2D(64, 3, use_bias=False, **SIGNS),
            norm(scale=False),
            keras.layers.Flatten(),
            qf.layers.QuantDense(64, use_bias=False, **SIGNS),
            norm(scale=False),
            qf.layers.QuantDense(10, use_bias=False, **SIGNS),
            norm(scale=False),
            keras.layers.Activation("softmax"),
        ]
    )


@pytest.mark.long
def test_every_image_has_the_same_class(mnist, tmp_path):
    with np.load(mnist) as data:
        x, y, test = (data[name] for name in ("x_train", "y_train", "x_test"))
    x, test = ((a[..., None] / 127.5 - 1).astype("float32") for a in (x[:5000], test))
    model = tutorial()
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    model.fit(x, y[:5000], batch_size=64, verbose=0)
    assert model.evaluate(x, y[:5000], verbose=0)[1] > 0.5  # it has learned something
    # The logits, and their softmax.
    both = keras.Model(model.inputs, [model.layers[-2].output, model.outputs[0]])
    path = tmp_path / "m.safetensors"
    qf.export(both, path, target="packed")
    expected = both.predict(test, batch_size=500, verbose=0)
    found = qf.packed.load(path).predict(test)
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_array_equal(here.argmax(axis=1), there.argmax(axis=1))
        np.testing.assert_allclose(here, there, atol=1e-4)
    qf.export(model, path, target="packed")
    assert path.stat().st_size <= 15 * 1024
    runtime = qf.packed.load(path)
    bits = [node.operation.weight_bits for node in runtime.graph.nodes]
    assert [b for b in bits if b] == [1] * 5
    # Batch norm is gone but for the last, and pooling is of bits.
    assert names_of(runtime.graph) == [
        *("conv2d", "quantize", "max_pool", "conv2d", "quantize", "max_pool"),
        *("conv2d", "quantize", "reshape", "dense", "quantize", "dense", "affine"),
        "activation",
    ]
