"""`qf.report`: its figures against NumPy, on any topology, and what it leaves behind."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import qframe as qf
from fitting import WITHOUT_XLA
from lifecycle import reported
from qframe.errors import ArgumentError, DataError, NotBuiltError, OutputError
from topology_models import named

pytestmark = pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def decibels(signal, noisy):
    signal, noisy = signal.astype("float64"), noisy.astype("float64")
    return 10 * math.log10((signal**2).sum() / ((noisy - signal) ** 2).sum())


def report(model, data=None, **options):
    return qf.report(model, data, **{"verbose": 0, **options})


def test_weights(known, weights):
    actual = report(known("ste_sign")).weights
    assert [w.path for w in actual] == ["first/kernel", "last/kernel"]
    for row, kernel in zip(actual, (weights[0], weights[2]), strict=True):
        assert row.noise.decibels == pytest.approx(decibels(kernel, sign(kernel)))
        assert row.count == kernel.size
        assert row.bits == 1
        assert row.saturation == 1.0
        histogram = row.histogram
        assert histogram.before.sum() == histogram.after.sum() == kernel.size
        # All that a sign leaves are two numbers.
        low, high = np.digitize([-1, 1], histogram.edges) - 1
        assert histogram.after[low] == (kernel < 0).sum()
        assert histogram.after[min(high, 47)] == (kernel >= 0).sum()


def test_saturation_of_weights_with_declared_ends(known, weights):
    row = report(known("integer(bits=3, narrow_range=True)")).weights[0]
    integers = np.rint(weights[0] / (np.abs(weights[0]).max() / 3))
    assert row.saturation == pytest.approx((np.abs(integers) == 3).mean())
    assert 0 < row.saturation < 0.5


def test_saturation_of_weights_with_observed_ends(known, weights):
    row = report(known("integer(bits=3, symmetric=False)")).weights[0]
    w = weights[0].astype("float64")
    scale = (w.max() - w.min()) / 7
    zero = np.rint(-4 - w.min() / scale)
    integers = np.clip(np.rint(w / scale), -4 - zero, 3 - zero)
    ends = (integers == integers.min()) | (integers == integers.max())
    assert row.saturation == pytest.approx(ends.mean())


def test_activations(known, x, weights):
    actual = report(known("ste_sign", "dorefa(k_bit=2, mode='activations')"), x).activations
    first, bias, last = weights

    def clip(x):
        return np.rint(np.clip(x, 0, 1) * 3) / 3

    float_first, quantized_first = x @ first + bias, clip(x) @ sign(first) + bias
    float_relu, quantized_relu = (np.maximum(y, 0) for y in (float_first, quantized_first))
    expected = {
        "first": (float_first, quantized_first),
        "relu": (float_relu, quantized_relu),
        "last": (float_relu @ last, clip(quantized_relu) @ sign(last)),
    }
    rows = {row.path: row for row in actual}
    assert set(rows) == set(expected)
    for path, (before, after) in expected.items():
        row = rows[path]
        assert row.noise.decibels == pytest.approx(decibels(before, after), abs=1e-3)
        assert row.float_range == pytest.approx((before.min(), before.max()), abs=1e-5)
        assert row.range == pytest.approx((after.min(), after.max()), abs=1e-5)
    for path, inputs in (("first", x), ("last", quantized_relu)):
        levels = clip(inputs)
        share = ((levels == 0) | (levels == 1)).mean()
        assert rows[path].saturation == pytest.approx({"input": share})
    order = [row.noise.decibels for row in actual]
    assert order == sorted(order)


def test_batches_do_not_matter(known, x):
    one, other = (
        report(known("ste_sign", "ste_sign"), x, batch_size=size) for size in (7, 50)
    )
    for a, b in zip(one.activations, other.activations, strict=True):
        assert a.path == b.path
        assert a.noise.relative_error == pytest.approx(b.noise.relative_error, rel=1e-5)
        assert a.range == pytest.approx(b.range)


def test_the_model_stays_as_it_is(known, x):
    model = known("ste_sign", "ste_sign")
    model.compile("adam", "mse", **WITHOUT_XLA)
    before = model.predict(x, verbose=0)
    report(model, x)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    for layer in (model, *model.layers):
        assert "call" not in layer.__dict__
        assert "idle_slots" not in layer.__dict__


def test_an_error_leaves_nothing_behind(known, x, monkeypatch):
    model = known("ste_sign")

    def broken(*_):
        raise RuntimeError("oops")

    monkeypatch.setattr("qframe.reports.runs._figures", broken)
    with pytest.raises(RuntimeError, match="oops"):
        report(model, x)
    for layer in (model, *model.layers):
        assert "call" not in layer.__dict__


SAMPLE = ["nested two deep", "subclassed", "bidirectional", "self attention"]


# All of them on the newest versions, in tests/passes/test_aspects.py.
@pytest.mark.elsewhere
@pytest.mark.parametrize("name", SAMPLE)
def test_topologies(name):
    topology = named(name)
    model = topology.model()
    qf.quantize(model, {"weight_quantizer": "ste_sign"})
    topology.compile(model)
    reported(model, topology.inputs())


def test_a_shared_layer_is_seen_in_both_calls():
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, use_bias=False, name="shared")
    model = keras.Model(inputs, dense(dense(inputs)))
    qf.quantize(model, {"kernel_quantizer": "ste_sign"})
    kernel = ops.convert_to_numpy(dense.kernel)
    x = np.eye(4, dtype="float32")
    (row,) = report(model, x).activations
    before = np.concatenate([x @ kernel, x @ kernel @ kernel])
    after = np.concatenate([x @ sign(kernel), x @ sign(kernel) @ sign(kernel)])
    assert row.noise.decibels == pytest.approx(decibels(before, after), abs=1e-3)


def test_without_data_and_without_quantizers(known):
    made = report(known())
    assert made.activations is None
    assert made.weights == ()
    assert "No weight of this model is quantized." in made.html
    assert made.to_dict()["activations"] is None


def test_save(known, tmp_path):
    made = report(known("ste_sign"))
    made.save(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text("utf-8") == made.html
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(OutputError, match="exists"):
        made.save(tmp_path / "r.html", force=False)
    with pytest.raises(OutputError, match=r"does not end in \.html"):
        made.save(tmp_path / "r.htm")


def test_notebooks(known, x):
    html = report(known("ste_sign"), x)._repr_html_()
    assert html.count("<table>") == 4
    assert "first/kernel" in html


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            np.ones((4, 5), "float32"),
            DataError,
            r"shape \(4, 5\), and 'known' takes \(None",
        ),
        (np.ones((4, 6, 2), "float32"), DataError, "data has the shape"),
        (np.ones((0, 6), "float32"), DataError, "data is empty"),
    ],
)
def test_data_that_does_not_fit(known, data, error, message):
    with pytest.raises(error, match=message):
        report(known("ste_sign"), data)


def test_other_objects_and_float_models_are_refused(known, x):
    with pytest.raises(ArgumentError, match=r"takes a keras\.Model"):
        report("model.keras")
    with pytest.raises(NotBuiltError, match="no weights yet"):
        report(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ArgumentError, match="has no quantized layer"):
        report(known(), x)
