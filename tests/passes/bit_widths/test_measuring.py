"""`qframe.sensitivity` against NumPy, on every backend, and what it leaves behind."""

import keras
import numpy as np
import pytest

import qframe as qf
from in_few_bits import QUANTIZER, in_bits, in_numpy, two_layers
from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, NotBuiltError, QFrameError
from topology_models import TOPOLOGIES

X = np.random.default_rng(1).normal(size=(64, 5)).astype("float32")


def values(model):
    return [keras.ops.convert_to_numpy(v).tobytes() for v in model.variables]


def losses_by_hand(model, bits, metric, activation="softmax"):
    """The loss of each layer, with its kernel replaced in NumPy."""
    weights = [np.asarray(w, np.float64) for w in model.get_weights()]
    y = in_numpy(weights, X, activation)
    found = {}
    for place, path in ((0, "one"), (2, "two")):
        changed = list(weights)
        changed[place] = in_bits(weights[place], bits)
        found[path] = metric(y, in_numpy(changed, X, activation))
    return found


def kl(p, q):
    return float((p * np.log(p / q)).sum(-1).mean())


def kl_of_sigmoids(p, q):
    return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(-1).mean())


def noise(y, q):
    return float(((q - y) ** 2).sum() / (y**2).sum())


@pytest.mark.once_per_backend
@pytest.mark.parametrize(
    ("metric", "activation", "expected"),
    [
        ("kl", "softmax", kl),
        ("kl", "sigmoid", kl_of_sigmoids),
        ("sqnr", "linear", noise),
    ],
)
def test_sensitivity_of_two_layers_equals_numpy(metric, activation, expected):
    model = two_layers(activation)
    table = qf.sensitivity(model, X, (2, 4, 8), metric, quantizer=QUANTIZER, verbose=0)
    assert [row.path for row in table.rows] == ["one", "two"]
    for bits in (2, 4, 8):
        by_hand = losses_by_hand(model, bits, expected, activation)
        for row in table.rows:
            assert row.losses[bits] == pytest.approx(by_hand[row.path], rel=1e-4, abs=1e-6)


def test_sensitivity_of_logits_takes_their_softmax():
    model, probabilities = two_layers("linear"), two_layers()
    tables = [
        qf.sensitivity(m, X, 4, quantizer=QUANTIZER, verbose=0)
        for m in (model, probabilities)
    ]
    for row, other in zip(*(t.rows for t in tables), strict=True):
        assert row.losses[4] == pytest.approx(other.losses[4], rel=1e-3)
    assert "logits of 3 classes" in str(tables[0])
    assert "softmax" in str(tables[1])


@pytest.mark.parametrize("one_hot", [False, True])
def test_loss_is_the_increase_of_the_cross_entropy(one_hot):
    model = two_layers()
    labels = np.arange(64) % 3

    def increase(y, q):
        return float(np.log(y[np.arange(64), labels] / q[np.arange(64), labels]).mean())

    by_hand = losses_by_hand(model, 3, increase)
    given = np.eye(3)[labels] if one_hot else labels
    options = {"quantizer": QUANTIZER, "verbose": 0}
    table = qf.sensitivity(model, X, 3, "loss", labels=given, **options)
    for row in table.rows:
        assert row.losses[3] == pytest.approx(by_hand[row.path], rel=1e-4, abs=1e-6)


@pytest.mark.tensorflow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow's")
def test_labels_in_a_dataset_are_used():
    import tensorflow as tf

    model, labels = two_layers(), np.arange(64) % 3
    data = tf.data.Dataset.from_tensor_slices((X, labels)).batch(24)
    found = qf.sensitivity(model, data, 3, "loss", verbose=0)
    expected = qf.sensitivity(model, X, 3, "loss", labels=labels, verbose=0)
    assert found.examples == 64
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert row.losses[3] == pytest.approx(other.losses[3], rel=1e-3, abs=1e-6)


def test_squared_error_of_numbers():
    model, targets = two_layers("linear"), np.ones((64, 3))

    def increase(y, q):
        return float(((q - 1) ** 2).mean() - ((y - 1) ** 2).mean())

    by_hand = losses_by_hand(model, 3, increase, "linear")
    options = {"quantizer": QUANTIZER, "verbose": 0}
    table = qf.sensitivity(model, X, 3, "loss", labels=targets, **options)
    for row in table.rows:
        assert row.losses[3] == pytest.approx(by_hand[row.path], rel=1e-4, abs=1e-6)


@pytest.mark.once_per_backend
@pytest.mark.parametrize("topology", TOPOLOGIES[::4], ids=str)
def test_sensitivity_of_a_topology_leaves_it_unchanged(topology):
    model = topology.model()
    before = values(model)
    options = {"quantizer": QUANTIZER, "verbose": 0}
    table = qf.sensitivity(model, topology.inputs(), (2, 8), "sqnr", **options)
    assert values(model) == before
    assert len(table.measured) + sum(len(row.tied) for row in table.rows) > 0
    for row in table.measured:
        assert row.losses[2] > row.losses[8] >= 0


@pytest.mark.once_per_backend
def test_weight_quantizers_rest_and_those_of_activations_run():
    model, other = two_layers(), two_layers()
    qf.quantize(other, {"weight_quantizer": "integer(bits=2, granularity='channel')"})
    options = {"quantizer": QUANTIZER, "verbose": 0}
    plain, rested = (qf.sensitivity(m, X, 4, **options) for m in (model, other))
    for row, again in zip(plain.rows, rested.rows, strict=True):
        assert again.losses[4] == pytest.approx(row.losses[4], rel=1e-4)
    assert other.get_layer("one").kernel_quantizer.bits == 2
    qf.quantize(model, {"input_quantizer": "integer(bits=2, gather='widest')"})
    qf.calibrate(model, X, verbose=0)
    coarse = qf.sensitivity(model, X, 4, **options)
    assert abs(coarse["one"].losses[4] - plain["one"].losses[4]) > 1e-6


def test_layer_that_is_quantized_is_measured_with_its_own_quantizer():
    model = two_layers()
    qf.quantize(model, [("re:one", {"kernel_quantizer": "lsq(bits=4)"}), (None, None)])
    table = qf.sensitivity(model, X, (2, 5), verbose=0)
    one, two = (row.settings[5]["kernel_quantizer"] for row in table.rows)
    assert one.startswith("kbit:lsq(bits=5,")
    assert two.startswith("integer:integer(bits=5,")
    assert model.get_layer("one").kernel_quantizer.bits == 4


def test_layers_that_cannot_take_part_are_rows_with_a_reason():
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(name="w", shape=shape[-1:])

        def call(self, x):
            return x * (1 + self.w)

    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, name="sign"),
            keras.layers.BatchNormalization(name="norm"),
            Scale(name="scale"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    settings = {"kernel_quantizer": "ste_sign(clip_value=None)"}
    qf.quantize(model, [("re:sign", settings)])
    table = qf.sensitivity(model, X, (2, 8), "sqnr", verbose=0)
    reasons = {row.path: row.reason for row in table.skipped}
    assert "has no parameter for its bits" in reasons["sign"]
    assert reasons["norm"] == "it has no kernel"
    assert "qframe.register_layer(Scale, kernel='w')" in reasons["scale"]
    assert [row.path for row in table.measured] == ["head"]
    assert "scale is skipped" in str(table)


def test_tied_weights_are_measured_once_and_together():
    first, second = keras.layers.Dense(4, name="a"), keras.layers.Dense(4, name="b")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, second(first(inputs)))
    with keras_internals.unlocked(second):
        second._kernel = first._kernel
    table = qf.sensitivity(model, X[:, :4], (2, 8), "sqnr", verbose=0)
    assert [(row.path, row.tied) for row in table.rows] == [("a", ("b",))]
    recipe = qf.allocate(model, table, bits=8)
    qf.quantize(model, recipe)
    assert (first.kernel_quantizer.bits, second.kernel_quantizer.bits) == (8, 8)


class Broken(qf.passes.SensitivityMetric):
    calls = 0

    def __call__(self, reference, outputs, labels, activation):
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("in the middle")
        return 1.0


@pytest.mark.once_per_backend
@pytest.mark.parametrize("quantized", [False, True])
def test_failure_in_the_middle_restores_the_model_to_the_bit(quantized):
    model = two_layers()
    if quantized:
        qf.quantize(model, "integer_inference")
        qf.calibrate(model, X, verbose=0)
    expected, before = model.predict(X, verbose=0), values(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        qf.sensitivity(model, X, (2, 3, 4), Broken(), verbose=0)
    assert values(model) == before
    np.testing.assert_array_equal(model.predict(X, verbose=0), expected)


def test_state_of_a_recurrent_layer_is_reset_before_each_run():
    if keras.backend.backend() == "torch":
        pytest.skip("Keras changes the state in place, and PyTorch forbids it")
    inputs = keras.Input(batch_shape=(4, 3, 5))
    outputs = keras.layers.SimpleRNN(3, stateful=True, name="rnn")(inputs)
    model = keras.Model(inputs, outputs)
    data = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")
    table = qf.sensitivity(model, data, (16,), "sqnr", verbose=0, batch_size=4)
    (row,) = table.measured
    assert row.losses[16] < 1e-6
    (state,) = model.get_layer("rnn").states
    assert not np.any(keras.ops.convert_to_numpy(state))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": None}, DataError, "Give what Model.predict takes"),
        ({"data": []}, DataError, "is empty"),
        ({"data": X[:0]}, DataError, "is empty"),
        ({"data": np.full_like(X, np.nan)}, DataError, "NaN or infinity"),
        ({"data": X[:, :3]}, DataError, "has the shape"),
        ({"data": np.repeat(X[:1], 8, axis=0)}, DataError, "the same for all 8 examples"),
        ({"data": X, "steps": 9}, DataError, "steps=9"),
        ({"data": X, "metric": "loss"}, DataError, "has none"),
        ({"data": X, "metric": "kll"}, QFrameError, "Did you mean 'kl'"),
        ({"data": X, "metric": "loss", "labels": [1, 2]}, DataError, "64 examples"),
        (
            {"data": X, "metric": "loss", "labels": np.full(64, 7)},
            DataError,
            "the classes 0 to 2",
        ),
        (
            {"data": X, "metric": "loss", "labels": np.full(64, np.nan)},
            DataError,
            "must be finite numbers",
        ),
        (
            {"data": X, "metric": "loss", "labels": ["cat"] * 64},
            DataError,
            "must be finite numbers, found array",
        ),
        (
            {"data": X, "metric": "loss", "labels": {"one": np.zeros(64)}},
            DataError,
            "the labels are for one, and the outputs are two",
        ),
        ({"data": X, "metric": 3}, ArgumentError, "qframe list"),
        ({"data": X, "bits": ()}, ArgumentError, "bits are integers from 1 to 16"),
        ({"data": X, "bits": (4, True)}, ArgumentError, "bits are integers"),
        ({"data": X, "bits": "4"}, ArgumentError, "bits are integers"),
        ({"data": X, "bits": 1}, ArgumentError, "in float cannot be measured in 1 bits"),
        ({"data": X, "bits": 1, "quantizer": "integer"}, ArgumentError, "in 1 bits"),
        ({"data": X, "quantizer": "ste_sign"}, ArgumentError, "no parameter for its bits"),
    ],
)
def test_wrong_arguments_say_what_to_type_and_change_nothing(arguments, error, message):
    model = two_layers()
    before = values(model)
    with pytest.raises(error, match=message):
        qf.sensitivity(model, verbose=0, **arguments)
    assert values(model) == before


def test_model_without_weights_or_kernels_is_an_error():
    with pytest.raises(NotBuiltError):
        qf.sensitivity(keras.Sequential([keras.layers.Dense(2)]), X)
    model = keras.Sequential([keras.Input((5,)), keras.layers.ReLU()])
    with pytest.raises(ArgumentError, match="no layer with a kernel"):
        qf.sensitivity(model, X)
    with pytest.raises(ArgumentError, match=r"takes a keras\.Model"):
        qf.sensitivity("model.keras", X)


def test_model_with_weights_that_are_not_finite_is_an_error():
    model = two_layers()
    model.get_layer("two").bias.assign(np.full(3, np.nan))
    with pytest.raises(DataError, match="with its weights in float"):
        qf.sensitivity(model, X, verbose=0)


def test_table_goes_through_json_and_back():
    import json

    table = qf.sensitivity(two_layers(), X[:4], (2, 8), "sqnr", verbose=0)
    text = json.dumps(table.to_dict(), allow_nan=False)
    assert qf.passes.Sensitivity.from_dict(json.loads(text)) == table
    assert "4 examples may not show" in str(table)
    assert " dB" in str(table)
    with pytest.raises(DataError, match="qframe sensitivity MODEL"):
        qf.passes.Sensitivity.from_dict({"rows": 3})
    with pytest.raises(ArgumentError, match="Did you mean 'one'"):
        table["ones"]


def batches_of_one(with_labels):
    for row in X[:8]:
        yield (row, np.zeros(())) if with_labels else (row,)


@pytest.mark.parametrize("with_labels", [True, False])
def test_examples_that_are_not_in_batches_are_an_error(with_labels):
    with pytest.raises(DataError, match=r"has the shape \(5,\), and .* takes"):
        qf.sensitivity(two_layers(), batches_of_one(with_labels), 4, verbose=0)


def test_labels_in_the_data_are_read_by_a_metric_that_needs_them_alone():
    batches = ((X[:8], np.zeros((8, size))) for size in (3, 5))
    table = qf.sensitivity(two_layers(), batches, 4, "sqnr", verbose=0)
    assert table.examples == 16


def test_bits_of_numpy_are_integers():
    table = qf.sensitivity(two_layers(), X, np.array([4, 2]), "sqnr", verbose=0)
    assert table.bits == (2, 4)
    assert {type(width) for width in table.bits} == {int}


@pytest.mark.parametrize("outputs", ["list", "dict"])
def test_labels_by_name_are_those_of_each_output(outputs):
    inputs = keras.Input((5,))
    last = keras.layers.Dense(3, activation="softmax", name="z")(inputs)
    first = keras.layers.Dense(7, activation="softmax", name="a")(inputs)
    both = [last, first] if outputs == "list" else {"z": last, "a": first}
    labels = {"a": np.arange(64) % 7, "z": np.arange(64) % 3}
    model = keras.Model(inputs, both)
    by_name = qf.sensitivity(model, X, 4, "loss", labels=labels, verbose=0)
    alone = keras.Model(inputs, last)
    one = qf.sensitivity(alone, X, 4, "loss", labels=labels["z"], verbose=0)
    assert by_name["z"].losses[4] == pytest.approx(one["z"].losses[4], rel=1e-4)


def test_two_outputs_add_up():
    inputs = keras.Input((5,))
    one, two = (keras.layers.Dense(3, activation="softmax", name=n) for n in "ab")
    model = keras.Model(inputs, {"x": one(inputs), "y": two(inputs)})
    both = qf.sensitivity(model, X, 2, verbose=0)
    alone = qf.sensitivity(keras.Model(inputs, one.output), X, 2, verbose=0)
    assert both["a"].losses[2] == pytest.approx(alone["a"].losses[2], rel=1e-4)
    assert "Output 2 is taken as" in str(both)
