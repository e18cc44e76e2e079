"""Ranges of activations from data, without training."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, DataError
from topology_models import TOPOLOGIES

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
    quantized = [layer for layer in model.layers if hasattr(layer, "quantizers")]
    kept = [layer.quantizers["input"].gathered for layer in quantized]
    return [[float(keras.ops.convert_to_numpy(e)) for e in (g.low, g.high)] for g in kept]


def outputs_of_first(model):
    """Return the outputs of the first layer in float."""
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
    assert "input_quantizer" in report.quantized[0].settings
    for now, was in zip(model.get_weights(), weights, strict=False):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "moving_average"])
def test_batches_do_not_matter_and_each_run_is_the_same(method):
    actual = []
    for batch_size in (7, 100, 7):
        model = network()
        qf.calibrate(model, DATA, method, batch_size=batch_size, verbose=0)
        actual.append(ranges(model))
    np.testing.assert_allclose(actual[0], actual[1], rtol=1e-5, atol=1e-6)
    assert actual[0] == actual[2]


def test_moving_average_is_that_of_training_and_percentile_by_hand():
    model = network()
    trained = qf.quantizers.get("integer(gather='moving_average', momentum=0.5)")
    batches = [DATA[:30], DATA[30:60], DATA[60:90], DATA[90:]]
    low, high = batches[0].min(), batches[0].max()
    for batch in batches:
        trained(batch, training=True)
        low, high = (low + batch.min()) / 2, (high + batch.max()) / 2
    qf.calibrate(model, DATA, "moving_average", momentum=0.5, batch_size=30, verbose=0)
    np.testing.assert_allclose(ranges(model)[0], [low, high], rtol=1e-5)
    ends = [trained.gathered.low, trained.gathered.high]
    np.testing.assert_allclose(
        ranges(model)[0], [float(keras.ops.convert_to_numpy(e)) for e in ends], rtol=1e-5
    )
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


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_one_loud_channel_is_seen_where_it_is(method):
    # A stride of 8 * 8 * 24 / 256 = 6 places would look at 4 of the 24 channels.
    data = np.random.default_rng(1).normal(size=(16, 8, 8, 24)).astype("float32")
    data[..., 5] *= 40
    model = keras.Sequential([keras.Input((8, 8, 24)), layers.Conv2D(2, 1)])
    qf.quantize(model, RULES)
    qf.calibrate(model, data, method, verbose=0)
    ((low, high),) = ranges(model)
    assert low < -60
    assert high > 60


def test_mse_by_channel_is_near_the_best_step_of_each():
    data = np.random.default_rng(0).standard_t(3, size=(400, 3)).astype("float32")
    data *= [1, 10, 0.1]
    settings = "integer(bits=4, gather='widest', granularity='channel')"
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    qf.quantize(model, {"input_quantizer": settings})
    qf.calibrate(model, data, "mse", verbose=0)
    actual = keras.ops.convert_to_numpy(model.layers[0].quantizers["input"](data))
    for now, x in zip(np.square(actual - data).mean(0), data.T, strict=True):
        steps = np.geomspace(0.01, 1, 400)[:, None] * np.abs(x).max() / 7
        tried = np.clip(np.rint(x / steps), -8, 7) * steps
        assert now <= 1.05 * np.square(tried - x).mean(1).min()


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
    actual = model.predict(DATA, verbose=0)
    with qf.float_weights(model):
        expected = model.predict(DATA, verbose=0)
    assert 0 < np.abs(actual - expected).max() < 0.03 * np.abs(expected).max()
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(DATA, verbose=0), actual)


def test_training_goes_on_from_there_unless_it_is_frozen():
    model = network()
    qf.calibrate(model, DATA, verbose=0)
    model.layers[1].quantizers["input"].freeze()
    before = ranges(model)
    model.compile("sgd", "mse", **WITHOUT_XLA)
    model.fit(2 * DATA, np.zeros((100, 3)), verbose=0)
    after = ranges(model)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_ranges_by_channel():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    settings = {"input_quantizer": "integer(gather='widest', granularity='channel')"}
    qf.quantize(model, settings)
    qf.calibrate(model, DATA, verbose=0)
    gathered = model.layers[0].quantizers["input"].gathered
    low = keras.ops.convert_to_numpy(gathered.low)
    np.testing.assert_allclose(low, DATA.min(0, keepdims=True), rtol=1e-6)


def one_nan():
    data = DATA.copy()
    data[70, 3] = np.nan
    return data


def unquantized():
    return keras.Sequential([keras.Input((8,)), layers.Dense(2)])


def learner(settings, units=3):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(units)])
    qf.quantize(model, settings)
    return model


@pytest.mark.one_case_in(3)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["lsq(bits=4)", "lsq_plus(bits=4)", "pact(bits=4)"])
def test_steps_and_bounds_that_learn_start_from_the_data(name, method):
    model = learner({"input_quantizer": name})
    data = np.abs(DATA) if "pact" in name else DATA
    report = qf.calibrate(model, data, method, verbose=0)
    (row,) = report.quantized
    assert " from " in row.settings["input_quantizer"]
    quantizer = model.layers[0].quantizers["input"]
    actual = keras.ops.convert_to_numpy(quantizer(data))
    # 16 levels over about 8 standard deviations.
    assert np.sqrt(np.square(actual - data).mean()) < 0.4
    if method == "minmax":
        step = {
            "lsq": max(-data.min() / 8, data.max() / 7),
            "lsq_plus": (data.max() - data.min()) / 15,
            "pact": data.max() / 15,
        }[name.split("(")[0]]
        steps = np.diff(np.unique(actual))
        np.testing.assert_allclose(steps / step, np.rint(steps / step), rtol=1e-3)
        np.testing.assert_allclose(steps.min(), step, rtol=1e-3)
    model.compile("sgd", "mse", **WITHOUT_XLA)
    before = np.abs(actual).max()
    model.fit(100 * data, np.zeros((100, 3)), verbose=0, epochs=1, batch_size=100)
    # Training does not start again with the range of its first batch.
    after = np.abs(keras.ops.convert_to_numpy(quantizer(100 * data))).max()
    assert after < 5 * before


def test_mse_is_that_of_the_values_of_the_quantizer():
    # Symmetric, half of the integers are below 0 and lost: the best range is another one.
    data = np.abs(DATA)
    for settings in ("integer(bits=4, gather='widest')", "lsq(bits=4)", "lsq_plus(bits=4)"):
        model = learner({"input_quantizer": settings})
        qf.calibrate(model, data, "mse", verbose=0)
        quantizer = model.layers[0].quantizers["input"]

        def error(quantizer=quantizer):
            return float(
                np.square(keras.ops.convert_to_numpy(quantizer(data)) - data).mean()
            )

        best = error()
        for part in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            quantizer.set_range(0, part * data.max())
            assert best <= error() * (1 + 1e-4)


def test_a_weight_has_the_range_that_it_has_itself():
    settings = {
        "weight_quantizer": "lsq(bits=3, per_channel=True)",
        "bias_quantizer": "lsq",
    }
    model = learner(settings)
    report = qf.calibrate(model, DATA, "percentile", percentile=100, verbose=0)
    kernel = model.layers[0].get_weights()[0]
    step = np.maximum(-kernel.min(0) / 4, kernel.max(0) / 3)
    (row,) = report.rows
    assert "a weight of 0 alone makes no range" in row.reason
    actual = qf.integers(model, strict=False)
    np.testing.assert_allclose(actual[f"{row.path}/kernel"].scale, step[None], rtol=1e-5)


def test_one_range_that_does_not_fit_leaves_all_as_they_were():
    parts = [
        layers.Dense(4, activation="relu"),
        layers.Dense(3),
        layers.ReLU(negative_slope=1),
    ]
    model = keras.Sequential([keras.Input((8,)), *parts, layers.Dense(2)])
    qf.quantize(model, [(qf.first, None), (layers.Dense, {"input_quantizer": "pact"})])
    model.layers[1].set_weights([-np.ones((4, 3)), np.zeros(3), np.array(10.0)])
    before = model.get_weights()
    with pytest.raises(DataError, match=r"does not fit: .*no bound"):
        qf.calibrate(model, DATA, verbose=0)
    for now, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_a_quantizer_that_is_a_layer_of_its_own(method):
    quantizer = qf.quantizers.get("integer(gather='widest')")

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = qf.quantizers.get("integer(gather='widest')")

        def call(self, inputs):
            return self.inner(inputs)

    other = Subclassed()
    with pytest.raises(ArgumentError, match="has no weights yet"):
        qf.calibrate(other, DATA)
    other(DATA)
    built = keras.Sequential([keras.Input((8,)), qf.quantizers.get(repr(quantizer))])
    parts = [keras.Input((8,)), quantizer, layers.Dense(2)]
    for model in (keras.Sequential(parts), built, other):
        (row,) = qf.calibrate(model, DATA, method, verbose=0).quantized
        assert list(row.settings) == ["quantizer"]
    for one in (quantizer, built.layers[0], other.inner):
        actual = keras.ops.convert_to_numpy(one(3 * DATA))
        assert 2 < actual.max() < np.abs(DATA).max() * 1.01


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_batches_of_sequences_of_other_lengths(method):
    def batches(*lengths):
        for length in lengths:
            yield (np.tile(DATA[:4, None, :], (1, length, 1)),)

    actual = []
    for lengths in ((3, 90), (3, 3), (90, 90)):
        model = keras.Sequential(
            [keras.Input((None, 8)), layers.Conv1D(3, 1), layers.GlobalAveragePooling1D()]
        )
        qf.quantize(model, "integer_inference")
        qf.calibrate(model, batches(*lengths), method, verbose=0)
        actual += ranges(model)[:1]
    # The same numbers, more or less often.
    np.testing.assert_allclose(actual[0], actual[1], rtol=0.1)
    np.testing.assert_allclose(actual[0], actual[2], rtol=0.1)


@pytest.mark.parametrize(
    ("quantizer", "method"),
    [
        ("lsq(bits=4)", "mse"),
        ("integer(gather='widest')", "minmax"),
        ("integer(gather='widest', symmetric=False)", "percentile"),
    ],
)
def test_constant_and_dead_inputs_do_not_stop_others(quantizer, method):
    # Beside a live branch, one that a ReLU never lets through, and one that is always 3.
    inputs = keras.Input((8,))
    parts = {
        "live": inputs,
        "dead": layers.ReLU()(layers.Dense(4, name="below")(inputs)),
        "constant": layers.Dense(4, name="flat")(inputs),
    }
    parts = [layers.Dense(2, name=name)(x) for name, x in parts.items()]
    model = keras.Model(inputs, layers.Add()(parts))
    model.get_layer("below").set_weights([np.zeros((8, 4)), -np.ones(4)])
    model.get_layer("flat").set_weights([np.zeros((8, 4)), np.full(4, 3.0)])
    named = r"re:live|dead|constant"
    qf.quantize(model, [(named, {"input_quantizer": quantizer})])
    report = qf.calibrate(model, DATA, method, verbose=0)
    rows = {row.path: row for row in report.quantized}
    assert set(rows) == {"live", "dead", "constant"}
    assert not rows["live"].reason
    assert "input_quantizer: only the number 0 reached it" in rows["dead"].reason
    assert "input_quantizer: only the number 3 reached it" in rows["constant"].reason
    assert "only the number 3" in str(report)
    by_name = {name: model.get_layer(name).quantizers["input"] for name in rows}
    for name, numbers in {"constant": [0.0, 3.0], "dead": [0.0, 1.0]}.items():
        kept = keras.ops.convert_to_numpy(by_name[name](numbers))
        np.testing.assert_allclose(kept, numbers, rtol=1e-6)
    live = keras.ops.convert_to_numpy(by_name["live"](DATA))
    assert np.abs(live - DATA).mean() < 0.2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: qf.calibrate(m, DATA[:0], verbose=0), DataError, "is empty"),
        (lambda m: qf.calibrate(m, DATA * np.nan, verbose=0), DataError, "NaN or infinity"),
        (lambda m: qf.calibrate(m, one_nan(), verbose=0), DataError, "NaN or infinity"),
        (lambda m: qf.calibrate(m, DATA, "minmix"), ArgumentError, "Did you mean 'minmax'"),
        (lambda m: qf.calibrate(m, DATA, momentum=0.5), ArgumentError, "no option"),
        (
            lambda m: qf.calibrate(m, DATA, "percentile", percentile=3),
            ArgumentError,
            "above 50 and up to 100",
        ),
        (
            lambda m: qf.calibrate(unquantized(), DATA),
            ArgumentError,
            "no quantizer with a range",
        ),
        (lambda m: qf.calibrate(m.layers[0], DATA), ArgumentError, "takes a keras.Model"),
        (lambda m: qf.calibrate(m, None), DataError, "calibration data is None"),
        (lambda m: qf.calibrate(m, []), DataError, "calibration data is empty"),
        (lambda m: qf.calibrate(m, DATA[0]), DataError, "data has the shape"),
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


SAMPLE = "nested two deep", "bidirectional", "self attention"


@pytest.mark.one_case_in(5)
@pytest.mark.parametrize(
    "topology",
    [
        pytest.param(t, marks=[] if t.name in SAMPLE else [pytest.mark.long])
        for t in TOPOLOGIES
    ],
    ids=str,
)
def test_every_topology(topology):
    model = topology.model()
    report = qf.quantize(model, "integer_inference(gather='widest')")
    if not any("input_quantizer" in row.settings for row in report.quantized):
        with pytest.raises(ArgumentError, match="no quantizer with a range"):
            qf.calibrate(model, topology.inputs(), verbose=0)
        return
    topology.compile(model)
    actual = qf.calibrate(model, topology.inputs(), verbose=0)
    assert actual.quantized
    assert all(np.isfinite(y.astype(float)).all() for y in topology.call(model))
