"""Ranges of activations from data, without training."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from qframe.errors import ArgumentError, DataError
from topologies import TOPOLOGIES, named

RULES = "integer_inference"
METHODS = ("minmax", "moving_average", "percentile", "mse", "entropy")
DATA = np.random.default_rng(0).normal(size=(100, 8)).astype("float32")


def network():
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(6, activation="relu"), layers.Dense(3)]
    model = keras.Sequential([keras.Input((8,)), *parts])
    qf.quantize(model, RULES)
    return model


def ranges(model):
    """Both ends of each range, by the index of the layer."""
    held = [layer.quantizers["input"].gathered for layer in model.layers]
    return [[float(keras.ops.convert_to_numpy(e)) for e in (g.low, g.high)] for g in held]


def outputs_of_first(model):
    """What the first layer returns in float."""
    kernel, bias = model.layers[0].get_weights()[:2]
    return np.maximum(DATA @ kernel + bias, 0)


def test_minmax_is_that_of_the_float_model():
    model = network()
    weights = model.get_weights()[:2]
    report = qf.calibrate(model, DATA, verbose=0)
    inner = outputs_of_first(model)
    expected = [[DATA.min(), DATA.max()], [inner.min(), inner.max()]]
    np.testing.assert_allclose(ranges(model), expected, rtol=1e-5, atol=1e-6)
    assert [row.path for row in report.quantized] == [layer.name for layer in model.layers]
    assert "input_quantizer" in report.quantized[0].words
    for now, was in zip(model.get_weights(), weights, strict=False):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("method", METHODS)
def test_batches_do_not_matter_and_each_run_is_the_same(method):
    found = []
    for batch_size in (7, 100, 7):
        model = network()
        qf.calibrate(model, DATA, method, batch_size=batch_size, verbose=0)
        found.append(ranges(model))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert found[0] == found[2]


def test_moving_average_and_percentile_by_hand():
    model = network()
    qf.calibrate(model, DATA, "moving_average", momentum=0.5, verbose=0)
    low, high = DATA[0].min(), DATA[0].max()
    for row in DATA[1:]:
        low, high = (low + row.min()) / 2, (high + row.max()) / 2
    np.testing.assert_allclose(ranges(model)[0], [low, high], rtol=1e-4)
    qf.calibrate(model, DATA, "percentile", percentile=90, verbose=0)
    np.testing.assert_allclose(ranges(model)[0], np.percentile(DATA, [10, 90]), rtol=1e-5)


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_an_outlier_is_left_out_where_that_is_better(method):
    data = np.tile(DATA, (20, 1)).astype("float32")
    data[0, 0] = 50
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    qf.quantize(model, "integer_inference(input_bits=4)")
    qf.calibrate(model, data, method, verbose=0)
    ((low, high),) = ranges(model)
    assert high < 25
    assert low < 0
    qf.calibrate(model, data, verbose=0)
    assert ranges(model)[0][1] == 50


def as_generator():
    for start in range(0, 100, 25):
        yield (DATA[start : start + 25],)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (DATA[25 * index : 25 * index + 25],)


@pytest.mark.parametrize("make", [as_generator, Batches], ids=["generator", "PyDataset"])
def test_batches_from_elsewhere(make):
    expected, model = network(), network()
    qf.calibrate(expected, DATA, verbose=0)
    qf.calibrate(model, make(), verbose=0)
    np.testing.assert_allclose(ranges(model), ranges(expected), rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset")
def test_a_dataset_of_tensorflow():
    import tensorflow as tf

    expected, model = network(), network()
    qf.calibrate(expected, DATA, verbose=0)
    qf.calibrate(model, tf.data.Dataset.from_tensor_slices(DATA).batch(30), verbose=0)
    np.testing.assert_allclose(ranges(model), ranges(expected), rtol=1e-6)


def test_the_calibrated_model_is_near_the_float_one_and_is_saved(tmp_path):
    model = network()
    qf.calibrate(model, DATA, verbose=0)
    found = model.predict(DATA, verbose=0)
    with qf.float_weights(model):
        expected = model.predict(DATA, verbose=0)
    assert 0 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(DATA, verbose=0), found)


def test_training_goes_on_from_there_unless_it_is_frozen():
    model = network()
    qf.calibrate(model, DATA, verbose=0)
    model.layers[1].quantizers["input"].freeze()
    before = ranges(model)
    model.compile("sgd", "mse")
    model.fit(2 * DATA, np.zeros((100, 3)), verbose=0)
    after = ranges(model)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_ranges_by_channel():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    words = {"input_quantizer": "integer(gather='widest', granularity='channel')"}
    qf.quantize(model, words)
    qf.calibrate(model, DATA, verbose=0)
    gathered = model.layers[0].quantizers["input"].gathered
    low = keras.ops.convert_to_numpy(gathered.low)
    np.testing.assert_allclose(low, DATA.min(0, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: qf.calibrate(m, DATA[:0], verbose=0), DataError, "is empty"),
        (lambda m: qf.calibrate(m, 0 * DATA, verbose=0), DataError, "only the number 0"),
        (lambda m: qf.calibrate(m, DATA * np.nan, verbose=0), DataError, "NaN or infinity"),
        (lambda m: qf.calibrate(m, DATA, "minmix"), ArgumentError, "Did you mean 'minmax'"),
        (lambda m: qf.calibrate(m, DATA, momentum=0.5), ArgumentError, "no option"),
        (
            lambda m: qf.calibrate(m, DATA, "percentile", percentile=3),
            ArgumentError,
            "from 50 to 100",
        ),
        (
            lambda m: qf.calibrate(keras.Sequential([layers.Dense(2)]), DATA),
            ArgumentError,
            "no quantizer with a range",
        ),
        (lambda m: qf.calibrate(m.layers[0], DATA), ArgumentError, "takes a keras.Model"),
    ],
)
def test_bad_input_changes_nothing(call, error, message):
    model = network()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        call(model)
    for now, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)
    assert "predict_step" not in vars(model)
    qf.calibrate(model, DATA, verbose=0)


SAMPLE = [named(n) for n in ("nested two deep", "bidirectional", "self attention")]


@pytest.mark.parametrize(
    "topology",
    [*SAMPLE, *(pytest.param(t, marks=pytest.mark.long) for t in TOPOLOGIES)],
    ids=str,
)
def test_every_topology(topology):
    model = topology.model()
    report = qf.quantize(model, "integer_inference(gather='widest')")
    if not any("input_quantizer" in row.words for row in report.quantized):
        with pytest.raises(ArgumentError, match="no quantizer with a range"):
            qf.calibrate(model, topology.inputs(), verbose=0)
        return
    topology.compile(model)
    found = qf.calibrate(model, topology.inputs(), verbose=0)
    assert found.quantized
    assert all(np.isfinite(y.astype(float)).all() for y in topology.predict(model))
