"""Numbers about the quantized weights, in the logs of `fit` and in TensorBoard."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from fitting import MODES, Probe, fit, network
from qframe.callbacks import QuantizationLogger, QuantizationMetrics
from qframe.callbacks.measuring import Flips, error, saturation
from qframe.errors import ArgumentError, QFrameError
from qframe.layers.tree import quantized_weights

EACH_MODE = pytest.mark.parametrize("mode", MODES)


def one(quantizer, kernel, **settings):
    """A model of one weight."""
    layer = layers.Dense(len(kernel[0]), use_bias=False, name="d")
    model = keras.Sequential([keras.Input((len(kernel),)), layer])
    qf.quantize(model, {"kernel_quantizer": quantizer, **settings})
    model.set_weights([np.array(kernel), *model.get_weights()[1:]])
    return model


def flips(quantizer, before, after):
    model = one(quantizer, before)
    result = Flips()
    result.update(quantized_weights(model))
    model.layers[0].kernel.assign(np.array(after))
    result.update(quantized_weights(model))
    return result.results()["d/kernel"]


@pytest.mark.parametrize(
    ("quantizer", "before", "after", "expected"),
    [
        ("ste_sign", [[0.5], [-0.5]], [[0.1], [0.1]], 0.5),
        # The scale moves, one sign flips.
        ("magnitude_aware_sign", [[0.5], [-0.5]], [[0.1], [0.3]], 0.5),
        ("magnitude_aware_sign", [[0.5], [-0.5]], [[0.1], [-0.3]], 0.0),
        # Levels of the same sign, and a scale that follows the largest magnitude.
        ("integer(bits=3)", [[3.0], [1.0]], [[3.0], [2.0]], 0.5),
        ("integer(bits=3)", [[3.0], [1.0]], [[6.0], [2.0]], 0.0),
        ("dorefa(k_bit=2, mode='weights')", [[1.0], [0.1]], [[1.0], [0.9]], 0.5),
        ("trained_ternary", [[1.0], [-0.5], [0.0]], [[2.0], [-0.25], [0.5]], 1 / 3),
    ],
)
def test_flips_are_of_levels(quantizer, before, after, expected):
    assert flips(quantizer, before, after) == pytest.approx(expected)


def test_saturation_and_error_by_hand():
    (weight,) = quantized_weights(one("ste_sign", [[0.5], [-2.0], [1.0], [3.0]]))
    assert saturation(weight) == 0.5
    assert error(weight) == pytest.approx((0.25 + 1 + 0 + 4) / (0.25 + 4 + 1 + 9))
    kernel = [[0.5], [-1.0]]
    (weight,) = quantized_weights(one("integer(bits=3)", kernel))
    assert saturation(weight) == 0
    step = 1 / 3
    assert error(weight) == pytest.approx((0.5 - 2 * step) ** 2 / 1.25, rel=1e-5)
    (weight,) = quantized_weights(one(lambda x: x, kernel))
    assert saturation(weight) is None
    assert error(weight) == 0


def binary():
    return qf.layers.QuantDense(
        8, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", name="a"
    )


@EACH_MODE
def test_flips_of_each_step_are_in_the_logs(mode):
    class Kernels(keras.callbacks.Callback):
        actual = None

        def on_train_begin(self, logs=None):
            self.recorded = [np.sign(self.model.layers[0].get_weights()[0])]

        def on_train_batch_end(self, batch, logs=None):
            self.recorded.append(np.sign(self.model.layers[0].get_weights()[0]))

    optimizer = keras.optimizers.SGD(0.5)
    model = network(binary(), layers.Dense(2), mode=mode, optimizer=optimizer)
    kernels = Kernels()
    history = fit(model, QuantizationMetrics(per_layer=True), kernels, epochs=2).history
    pairs = zip(kernels.recorded, kernels.recorded[1:], strict=False)
    each = [np.not_equal(a, b).mean() for a, b in pairs]
    expected = [np.mean(each[:4]), np.mean(each[4:])]
    assert max(expected) > 0
    np.testing.assert_allclose(history["flip_ratio"], expected, rtol=1e-5)
    assert history["a/kernel/flip_ratio"] == history["flip_ratio"]
    assert set(history) >= {"saturation", "quantization_error", "a/kernel/saturation"}


def test_flips_from_epoch_to_epoch_and_the_mean_over_weights():
    parts = [binary(), layers.Dense(2, name="b")]
    model = network(*parts, optimizer=keras.optimizers.SGD(0.5))
    qf.quantize(
        model, [("re:^b$", {"kernel_quantizer": "magnitude_aware_sign"}), ("re:^a$", None)]
    )
    signs = [np.sign(part.get_weights()[0]) for part in parts]
    probe = Probe(lambda m: [np.sign(part.get_weights()[0]) for part in m.layers])
    history = fit(model, QuantizationMetrics("flip_ratio", flips="epoch"), probe, epochs=1)
    changed = [np.not_equal(a, b) for a, b in zip(signs, probe.recorded[0], strict=True)]
    expected = np.concatenate([c.ravel() for c in changed]).mean()
    np.testing.assert_allclose(history.history["flip_ratio"], [expected], rtol=1e-5)
    assert "saturation" not in history.history


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantizationMetrics(["flips"]), "metrics of QuantizationMetrics"),
        (lambda: QuantizationMetrics(flips="batch"), "flips of QuantizationMetrics"),
        (lambda: QuantizationLogger("x", update_freq="batch"), "update_freq"),
        (lambda: QuantizationLogger("x", update_freq=0), "update_freq"),
        (lambda: fit(network(), QuantizationMetrics()), "no weight of .* is quantized"),
        (lambda: fit(network(), QuantizationLogger("x")), "no weight of .* is quantized"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def entries(folder):
    """The written logs: steps and numbers by tag."""
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [
            (e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_the_log(tmp_path):
    settings = {"input_quantizer": "lsq", "kernel_quantizer": "magnitude_aware_sign"}
    settings["kernel_constraint"] = "weight_clip"
    model = network(qf.layers.QuantDense(4, **settings, name="a"), layers.Dense(2))
    probe = Probe(lambda m: m.layers[0].get_weights()[0])
    fit(model, QuantizationLogger(tmp_path), probe, epochs=2)
    actual = entries(tmp_path)
    assert [step for step, _ in actual["a/kernel/flip_ratio"]] == [0, 1]
    kernel = probe.recorded[-1]
    values = np.sign(kernel) * np.abs(kernel).mean(0)
    error = np.square(kernel - values).sum() / np.square(kernel).sum()
    np.testing.assert_allclose(
        actual["a/kernel/quantization_error"][1][1], error, rtol=1e-4
    )
    steps = [tag for tag in actual if tag.startswith("a/input_quantizer/")]
    assert len(steps) == len(model.layers[0].quantizers["input"].weights)
    _, latent = actual["a/kernel/latent"][1]
    assert latent[:, 2].sum() == kernel.size
    np.testing.assert_allclose([latent[0, 0], latent[-1, 1]], [kernel.min(), kernel.max()])
    assert "a/kernel/quantized" in actual


def test_the_log_by_batches(tmp_path):
    model = network(binary(), layers.Dense(2))
    fit(model, QuantizationLogger(tmp_path, update_freq=3, histograms=False), epochs=2)
    actual = entries(tmp_path)
    assert [step for step, _ in actual["a/kernel/saturation"]] == [3, 6]
    assert "a/kernel/latent" not in actual


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch, tmp_path):
    for name in list(sys.modules):
        if name.split(".")[0] == "tensorboard":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    model = network(binary(), layers.Dense(2))
    with pytest.raises(QFrameError, match=r"keras-qframe\[tensorboard\]"):
        fit(model, QuantizationLogger(tmp_path))
