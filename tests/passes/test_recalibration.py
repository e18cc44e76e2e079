"""The statistics of batch normalization, estimated again from data."""

import inspect

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import qframe as qf
from examples import settings
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, DataError, NotBuiltError
from two_devices import run_on_two_devices

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
DATA = (RNG.normal(size=(100, 8)) * RNG.uniform(0.5, 4, 8) + 3).astype("float32")


def statistics(layer):
    return [
        ops.convert_to_numpy(v).astype("float64")
        for v in (layer.moving_mean, layer.moving_variance)
    ]


def recalibrate(model, data=DATA, **options):
    return qf.recalibrate_batchnorm(model, data, **{"verbose": 0, **options})


def chain(*parts, shape=(8,)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *parts])


def batch(x, size):
    return [x[start : start + size] for start in range(0, len(x), size)]


def averaged(batches):
    """Of a list of batches: the averages of their means and variances, by their sizes."""
    sizes = [b[..., 0].size for b in batches]
    axes = tuple(range(batches[0].ndim - 1))
    means = [b.astype("float64").mean(axes) for b in batches]
    variances = [b.astype("float64").var(axes) for b in batches]
    return [np.average(parts, axis=0, weights=sizes) for parts in (means, variances)]


def same(result, expected, rtol=2e-5):
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


@settings(max_examples=5)
@given(size=st.integers(2, 120), scale=st.floats(0.1, 100))
def test_averages_of_batches_of_any_size(size, scale):
    model = chain(layers.BatchNormalization())
    data = (DATA * scale).astype("float32")
    recalibrate(model, data, batch_size=size)
    same(statistics(model.layers[0]), averaged(batch(data, size)), rtol=1e-4)


def test_several_in_a_row_depend_on_each_other_as_in_training():
    """The second sees what the first one normalized by its batch."""
    first, second = layers.BatchNormalization(), layers.BatchNormalization()
    model = chain(first, layers.Dense(3), second)
    first.gamma.assign(RNG.uniform(0.5, 2, 8))
    kernel, bias = model.layers[1].get_weights()
    recalibrate(model, batch_size=30)
    gamma = ops.convert_to_numpy(first.gamma)
    hidden = [
        (b - b.mean(0)) / np.sqrt(b.var(0) + first.epsilon) * gamma @ kernel + bias
        for b in batch(DATA, 30)
    ]
    same(statistics(first), averaged(batch(DATA, 30)))
    same(statistics(second), averaged(hidden), rtol=1e-4)


def test_one_batch_is_what_keras_itself_learns_with_momentum_zero():
    parts = [layers.Dense(5), layers.BatchNormalization(momentum=0.0), layers.Dense(2)]
    parts += [layers.BatchNormalization(momentum=0.0)]
    model = chain(*parts)
    before = model.get_weights()
    model(ops.convert_to_tensor(DATA), training=True)
    expected = [statistics(part) for part in (parts[1], parts[3])]
    model.set_weights(before)
    recalibrate(model, batch_size=100)
    for part, wanted in zip((parts[1], parts[3]), expected, strict=True):
        same(statistics(part), wanted)
        assert part.momentum == 0


def test_nothing_else_changes_and_each_run_is_the_same():
    model = chain(
        qf.layers.QuantDense(
            6,
            input_quantizer="integer",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
        ),
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=1),
        layers.GaussianNoise(1.0, seed=2),
        layers.Dense(3),
        layers.BatchNormalization(momentum=0.7),
    )
    before = [ops.convert_to_numpy(v) for v in model.variables]
    recalibrate(model)
    actual = [ops.convert_to_numpy(v) for v in model.variables]
    changed = [
        v.name
        for v, a, b in zip(model.variables, before, actual, strict=True)
        if not np.array_equal(a, b)
    ]
    assert changed == ["moving_mean", "moving_variance"] * 2
    assert [layer.momentum for layer in (model.layers[1], model.layers[5])] == [0.99, 0.7]
    assert "call" not in vars(model.layers[1])
    recalibrate(model)
    for a, b in zip(actual, model.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


def test_the_model_predicts_with_them_and_trains_on():
    model = chain(layers.Dense(4), layers.BatchNormalization())
    model.compile("sgd", "mse", **WITHOUT_XLA)
    predicted = model.predict(DATA, verbose=0)  # traces a function
    model.fit(DATA, np.zeros((100, 4)), verbose=0)
    recalibrate(model, batch_size=100)
    after = model.predict(DATA, verbose=0)
    np.testing.assert_allclose(after.mean(0), 0, atol=1e-4)
    assert not np.allclose(after, predicted)
    before = statistics(model.layers[1])
    model.fit(DATA, np.zeros((100, 4)), verbose=0)
    assert not np.allclose(statistics(model.layers[1])[0], before[0])


def test_a_nested_model_and_a_shared_layer():
    shared = layers.BatchNormalization(name="shared")
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8), shared], name="inner")
    x = keras.Input((8,))
    model = keras.Model(x, layers.add([inner(x), shared(x)]))
    recalibrate(model, batch_size=50)
    kernel, bias = inner.layers[0].get_weights()
    parts = [part for b in batch(DATA, 50) for part in (b @ kernel + bias, b)]
    same(statistics(shared), averaged(parts), rtol=1e-4)


class Subclassed(keras.Model):
    """Calls one of its batch normalizations in inference mode, and one never."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)
        self.first = layers.BatchNormalization(name="first")
        self.fixed = layers.BatchNormalization(name="fixed")
        self.unused = layers.BatchNormalization(name="unused")

    def call(self, x, training=None):
        x = self.fixed(self.first(self.dense(x), training=training), training=False)
        return x if x is not None else self.unused(x)


def test_a_subclassed_model_and_what_training_leaves_alone():
    model = Subclassed()
    model(DATA)
    model.unused.build((None, 4))
    before = statistics(model.fixed)
    report = recalibrate(model)
    assert [row.path.split("/")[-1] for row in report.recalibrated] == ["first"]
    reasons = {row.path.split("/")[-1]: row.reason for row in report.skipped}
    assert "inference mode" in reasons["fixed"]
    assert "no call" in reasons["unused"]
    same(statistics(model.fixed), before)
    assert "first" in str(report)
    assert "1 of 3 batch normalizations re-estimated" in str(report)
    assert "standard deviations" in report.to_dict()["rows"][0]["settings"]["moving_mean"]


class Untrained(keras.Model):
    """Does not pass on whether it is training: Keras never estimates its statistics."""

    def __init__(self):
        super().__init__()
        self.normalize = layers.BatchNormalization()

    def call(self, x):
        return self.normalize(x)


def test_layers_that_train_without_batch_statistics_are_skipped():
    model = Untrained()
    model(DATA)
    with pytest.raises(ArgumentError, match="inference mode"):
        recalibrate(model)
    model.compile("sgd", "mse", **WITHOUT_XLA)
    before = statistics(model.normalize)
    model.fit(DATA, DATA, verbose=0)
    same(statistics(model.normalize), before)


def test_frozen_layers_are_skipped_with_the_reason():
    frozen, free = layers.BatchNormalization(), layers.BatchNormalization()
    model = chain(frozen, free)
    frozen.trainable = False
    report = recalibrate(model)
    assert [row.reason for row in report.skipped] == [
        "trainable=False: training runs it in inference mode too"
    ]
    # What the frozen one lets through is normalized by its own statistics.
    expected = averaged(batch(DATA / np.sqrt(1 + frozen.epsilon), 32))
    same(statistics(free), expected)
    free.trainable = False
    with pytest.raises(ArgumentError, match="no batch normalization of"):
        recalibrate(model)


@pytest.mark.skipif(
    "renorm" not in inspect.signature(layers.BatchNormalization).parameters,
    reason="this Keras has no renorm",
)
def test_renorm_is_skipped():
    model = chain(layers.BatchNormalization(renorm=True), layers.BatchNormalization())
    report = recalibrate(model)
    assert "renorm=True" in report.skipped[0].reason
    assert len(report.recalibrated) == 1


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow synchronizes")
def test_synchronized():
    model = chain(layers.BatchNormalization(synchronized=True))
    recalibrate(model, batch_size=50)
    same(statistics(model.layers[0]), averaged(batch(DATA, 50)))


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_on_two_devices():
    """Each of them normalizes by its half of a batch, or both by all of it."""
    code = """
x = np.arange(64, dtype="float32")[:, None]
for synchronized in (False, True):
    with two_devices.scope():
        layer = keras.layers.BatchNormalization(synchronized=synchronized)
        model = keras.Sequential([keras.Input((1,)), layer])
        model.compile("sgd", "mse", jit_compile=False)
    qf.recalibrate_batchnorm(model, x, batch_size=64, verbose=0)
    halves = np.mean([x[:32].var(), x[32:].var()])
    np.testing.assert_allclose(layer.moving_mean.numpy(), x.mean(0), rtol=1e-5)
    expected = x.var() if synchronized else halves
    np.testing.assert_allclose(layer.moving_variance.numpy(), [expected], rtol=1e-4)
"""
    run_on_two_devices(code)


def test_steps_per_execution():
    model = chain(layers.BatchNormalization())
    model.compile("sgd", "mse", steps_per_execution=1 if BACKEND == "torch" else 3)
    recalibrate(model, batch_size=20)
    same(statistics(model.layers[0]), averaged(batch(DATA, 20)))


def test_images_channels_first_axis_and_two_inputs():
    images = RNG.normal(size=(20, 3, 5, 4)).astype("float32")
    first, last = layers.BatchNormalization(axis=1), layers.BatchNormalization()
    a, b = keras.Input((3, 5, 4)), keras.Input((8,))
    model = keras.Model([a, b], [first(a), last(b)])
    recalibrate(model, [images, DATA[:20]], batch_size=10)
    moved = np.moveaxis(images, 1, -1)
    same(statistics(first), averaged(batch(moved, 10)))
    same(statistics(last), averaged(batch(DATA[:20], 10)))


def test_masked_steps_do_not_count():
    data = RNG.normal(size=(20, 6, 4)).astype("float32")
    lengths = RNG.integers(1, 7, 20)
    for row, length in zip(data, lengths, strict=True):
        row[length:] = 0
    model = chain(layers.Masking(), layers.BatchNormalization(), shape=(6, 4))
    recalibrate(model, data, batch_size=7)
    kept = [b[(b != 0).any(-1)] for b in batch(data, 7)]
    same(statistics(model.layers[1]), averaged(kept), rtol=1e-4)


def test_within_a_time_distributed_layer():
    data = RNG.normal(size=(20, 3, 4)).astype("float32")
    inner = layers.BatchNormalization()
    model = chain(layers.TimeDistributed(inner), shape=(3, 4))
    recalibrate(model, data, batch_size=10)
    steps = [b[:, t] for b in batch(data, 10) for t in range(3)]
    same(statistics(inner), averaged(steps))


@keras.saving.register_keras_serializable("recalibration")
class Cell(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = 4
        self.normalize = layers.BatchNormalization()

    def build(self, shape):
        self.normalize.build((None, 4))
        self.built = True

    def call(self, x, states, training=None):
        out = self.normalize(x + states[0], training=training)
        return out, [out]


def test_within_a_loop_over_time_it_is_skipped():
    cell = Cell()
    model = chain(layers.RNN(cell), layers.BatchNormalization(), shape=(3, 4))
    report = recalibrate(model, RNG.normal(size=(20, 3, 4)).astype("float32"))
    assert [row.reason for row in report.skipped] == ["it is within a loop over time"]


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = chain(layers.BatchNormalization())
    recalibrate(model, batch_size=50)
    same(statistics(model.layers[0]), averaged(batch(DATA, 50)), rtol=1e-3)


def as_generator():
    for part in batch(DATA, 25):
        yield (part, np.zeros(len(part)))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (DATA[25 * index : 25 * index + 25],)


@pytest.mark.parametrize("make", [as_generator, Batches], ids=["generator", "PyDataset"])
def test_batches_from_elsewhere(make):
    model = chain(layers.BatchNormalization())
    recalibrate(model, make())
    same(statistics(model.layers[0]), averaged(batch(DATA, 25)))
    recalibrate(model, make(), steps=2)
    same(statistics(model.layers[0]), averaged(batch(DATA[:50], 25)))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a tf.data.Dataset")
def test_a_dataset_of_tensorflow():
    import tensorflow as tf

    model = chain(layers.BatchNormalization())
    recalibrate(model, tf.data.Dataset.from_tensor_slices((DATA, DATA)).batch(30))
    same(statistics(model.layers[0]), averaged(batch(DATA, 30)))


def test_a_subclass_of_batch_normalization():
    class Doubled(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return super().call(2 * inputs, training=training, mask=mask)

    model = chain(Doubled())
    recalibrate(model, batch_size=50)
    same(statistics(model.layers[0]), averaged(batch(2 * DATA, 50)))


@pytest.mark.parametrize(
    ("make", "data", "error", "message"),
    [
        (lambda: chain(layers.Dense(2)), DATA, ArgumentError, "has no keras.layers.Batch"),
        (layers.BatchNormalization, DATA, ArgumentError, "takes a keras.Model"),
        (
            lambda: keras.Sequential([layers.BatchNormalization()]),
            DATA,
            NotBuiltError,
            "not",
        ),
        (lambda: chain(layers.BatchNormalization()), DATA[:0], DataError, "is empty"),
        (lambda: chain(layers.BatchNormalization()), DATA * np.nan, DataError, "NaN"),
        (lambda: chain(layers.BatchNormalization()), DATA * np.inf, DataError, "infinity"),
    ],
)
def test_errors_change_nothing(make, data, error, message):
    model = make()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        recalibrate(model, data)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_on_the_way_leaves_the_model_as_it_was():
    def broken():
        yield (DATA[:50],)
        raise RuntimeError("no more")

    model = chain(layers.BatchNormalization(), layers.Dense(2))
    expected = model.predict(DATA, verbose=0)
    with pytest.raises(Exception, match="no more"):
        recalibrate(model, broken())
    np.testing.assert_array_equal(model.predict(DATA, verbose=0), expected)
    assert model.layers[0].momentum == 0.99
    assert "call" not in vars(model.layers[0])
    assert "predict_step" not in vars(model)
