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


def apart(model):
    """Put each threshold midway between two sums that there can be.

    Pixels are multiples of 1/128 and all else are signs, so that no sum is rounded. Batch
    normalization is, and it is no matter in which order where no sum is at its threshold.
    """
    step = 1 / 128
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            beta, mean, variance = layer.get_weights()
            threshold = mean - beta * np.sqrt(variance + layer.epsilon)
            middle = (np.floor(threshold / step) + 0.5) * step
            layer.set_weights([beta, mean + middle - threshold, variance])
            step = 1


@pytest.mark.long
def test_every_image_has_the_same_class(mnist, tmp_path):
    with np.load(mnist) as data:
        x, y, test = (data[name] for name in ("x_train", "y_train", "x_test"))
    x, test = ((a[..., None] / 128 - 1).astype("float32") for a in (x[:5000], test))
    model = tutorial()
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    model.fit(x, y[:5000], batch_size=64, verbose=0)
    apart(model)
    assert model.evaluate(x, y[:5000], verbose=0)[1] > 0.5  # it has learned something
    # The logits, and their softmax.
    both = keras.Model(model.inputs, [model.layers[-2].output, model.outputs[0]])
    path = tmp_path / "m.safetensors"
    qf.export(both, path, target="packed")
    expected = both.predict(test, batch_size=500, verbose=0)
    actual = qf.packed.load(path).predict(test)
    for output, target in zip(actual, expected, strict=True):
        np.testing.assert_allclose(output, target, atol=1e-4)
    second, first = np.sort(expected[0], axis=1)[:, -2:].T
    clear = first - second > 1e-3
    assert clear.mean() > 0.98
    classes = [outputs[0].argmax(axis=1) for outputs in (actual, expected)]
    np.testing.assert_array_equal(classes[0][clear], classes[1][clear])
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
