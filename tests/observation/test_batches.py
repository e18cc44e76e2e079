"""The size and the number of batches that every run over data takes."""

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import ArgumentError

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")


def network():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, "relu"),
            keras.layers.Dense(2),
            keras.layers.BatchNormalization(),
        ]
    )


def quantized():
    model = network()
    qf.quantize(model, "integer_inference")
    return model


def verified(options, folder):
    quantizers = {"input_quantizer": "dorefa(k_bit=4)", "kernel_quantizer": "integer"}
    layer = qf.layers.QuantDense(2, **quantizers)
    model = keras.Sequential([keras.Input((4,)), layer])
    path = folder / "model.safetensors"
    qf.export(model, path, target="packed")
    return qf.verify(model, path, X, verbose=0, **options)


RUNS = {
    "calibrate": lambda options, _: qf.calibrate(quantized(), X, verbose=0, **options),
    "equalize": lambda options, _: qf.equalize(network(), X, "awq", verbose=0, **options),
    "recalibrate": lambda options, _: qf.recalibrate_batchnorm(
        network(), X, verbose=0, **options
    ),
    "callback": lambda options, _: qf.callbacks.RecalibrateBatchNorm(X, **options),
    "round": lambda options, _: qf.round_weights(quantized(), X, verbose=0, **options),
    "sensitivity": lambda options, _: qf.sensitivity(
        network(), X, 4, "sqnr", verbose=0, **options
    ),
    "verify": verified,
}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("batch_size", -1),
        ("batch_size", 2.5),
        ("steps", 0),
        ("steps", True),
        ("steps", "4"),
    ],
)
@pytest.mark.parametrize("run", RUNS)
def test_batches_of_another_size_or_number_are_an_error(run, option, value, tmp_path):
    with pytest.raises(ArgumentError) as raised:
        RUNS[run]({option: value}, tmp_path)
    assert str(raised.value).startswith(
        f"{option} must be an integer of 1 or more, found {value!r}. Write for example "
        f"{option}=32, or leave it out"
    )


def test_sizes_of_numpy_are_taken():
    options = {"batch_size": np.int64(8), "steps": np.int32(2)}
    assert RUNS["sensitivity"](options, None).examples == 16
