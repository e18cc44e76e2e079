"""`qf.compare`: two models on the same data."""

import json
import re

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import ArgumentError, DataError, NotBuiltError

pytestmark = pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")


def compare(first, second, x, labels=None):
    return qf.compare(first, second, x, labels, verbose=0)


def test_first_divergence_is_named(known, x, weights):
    first, second = known(), known()
    qf.quantize(second, [(qf.last, {"kernel_quantizer": "ste_sign"})])
    actual = compare(first, second, x)
    assert [layer.path for layer in actual.layers] == ["first", "relu", "last"]
    assert [layer.noise.noise for layer in actual.layers[:2]] == [0, 0]
    assert actual.first_divergence.path == "last"
    hidden = np.maximum(x @ weights[0] + weights[1], 0)
    y, q = hidden @ weights[2], hidden @ np.where(weights[2] >= 0, 1, -1)
    error = np.linalg.norm(q - y) / np.linalg.norm(y)
    assert actual.layers[2].noise.relative_error == pytest.approx(error, rel=1e-4)
    assert "They part at 'last'" in str(actual)


def test_equal_models(known, x):
    actual = compare(known(), known(), x)
    assert actual.first_divergence is None
    assert actual.conclusion == "All 3 layers that both have return the same."
    assert actual.to_dict()["first_divergence"] is None


@pytest.mark.parametrize("kind", ["numbers", "column", "one-hot"])
def test_accuracy(known, x, weights, kind):
    y = np.maximum(x @ weights[0] + weights[1], 0) @ weights[2]
    right = y.argmax(-1)
    labels = np.where(np.arange(50) < 10, (right + 1) % 3, right)
    given = {"numbers": labels, "column": labels[:, None], "one-hot": np.eye(3)[labels]}
    actual = compare(known(), known("ste_sign"), x, given[kind])
    q = np.maximum(x @ np.sign(weights[0]) + weights[1], 0) @ np.sign(weights[2])
    expected = 0.8, (q.argmax(-1) == labels).mean()
    assert actual.accuracies == pytest.approx(expected)
    assert "80.00 %" in str(actual)


@pytest.mark.parametrize(
    ("activation", "bias", "low"),
    [("sigmoid", 0, 0), (None, 0, 0), (None, 0.2, 0), ("tanh", 0, -1), ("sigmoid", 5, 0)],
)
def test_accuracy_of_one_output(x, activation, bias, low):
    """A probability is above a half, and a logit above 0."""
    layer = keras.layers.Dense(1, activation, name="only")
    model = keras.Sequential([keras.Input((6,)), layer])
    model.set_weights([np.eye(6, 1), np.array([bias])])
    labels = np.where(x[:, 0] > 0, 1, low)
    right = ((x[:, 0] + bias > 0) == (labels == 1)).mean()
    actual = compare(model, keras.models.clone_model(model), x, labels)
    assert actual.accuracies[0] == pytest.approx(right)


def test_figures_in_json(known, x):
    actual = compare(known(), known("ste_sign"), x)
    figures = json.loads(json.dumps(actual.to_dict(), allow_nan=False))
    assert set(figures) == {"models", "layers", "first_divergence"}
    one, other = figures["models"]
    assert one["memory_bits"] == 32 * 50
    assert other["memory_bits"] == 45 + 32 * 5
    assert one["accuracy"] is None
    keys = {"path", "kind", "relative_error", "sqnr_db", "cosine", "shapes"}
    assert set(figures["layers"][0]) == keys
    assert actual._repr_html_().count("<table>") == 2


def sequential(*layers, size=6):
    return keras.Sequential([keras.Input((size,)), *layers])


def dense(units, name):
    return keras.layers.Dense(units, name=name)


def test_layers_of_other_shapes_and_alone(x):
    first = sequential(dense(4, "a"), dense(5, "b"), dense(3, "c"))
    second = sequential(dense(7, "a"), dense(3, "c"), keras.layers.ReLU(name="d"))
    actual = compare(first, second, x)
    assert [layer.path for layer in actual.layers] == ["a", "c"]
    assert actual.layers[0].shapes == ((None, 4), (None, 7)) or (
        [shape[1:] for shape in actual.layers[0].shapes] == [(4,), (7,)]
    )
    assert actual.layers[0].differs
    assert actual.first_divergence.path == "a"
    assert actual.alone == (("b",), ("d",))
    assert "2 layers are in one of them only" in actual.conclusion
    json.dumps(actual.to_dict(), allow_nan=False)
    (line,) = (line for line in str(actual).splitlines() if re.match(r"\| +a ", line))
    assert re.search(r"\((\w+), 4\) and \(\1, 7\)", line)


def test_models_that_share_layers(x):
    shared = dense(4, "a")
    first, second = (sequential(shared, dense(3, "b")) for _ in range(2))
    actual = compare(first, second, x)
    assert actual.first_divergence.path == "b"
    assert "call" not in shared.__dict__


def test_incomparable_models_are_refused(x):
    model = sequential(dense(3, "a"))
    for other, message in (
        (sequential(dense(3, "a"), size=5), r"takes \(None, 6\) and .* takes \(None, 5\)"),
        (sequential(dense(2, "a")), r"returns \(None, 3\) and .* returns \(None, 2\)"),
        (sequential(dense(3, "z")), "no layer of the same path: the first has 'a', the"),
        (model, "the same object"),
        ("m.keras", r"takes a keras\.Model"),
    ):
        with pytest.raises(ArgumentError, match=message):
            compare(model, other, x)
    with pytest.raises(NotBuiltError, match="no weights yet"):
        compare(model, keras.Sequential([dense(3, "a")]), x)


@pytest.mark.parametrize("labels", [np.zeros(49), np.zeros((50, 2, 2)), np.zeros(())])
def test_labels_that_do_not_fit(known, x, labels):
    with pytest.raises(DataError, match="the labels have the shape"):
        compare(known(), known(), x, labels)


@pytest.mark.parametrize("labels", [np.linspace(0, 2, 50), np.full(50, 3), -np.ones(50)])
def test_labels_that_are_no_classes(known, x, labels):
    with pytest.raises(DataError, match="for which a class is 0 to 2"):
        compare(known(), known(), x, labels)


@pytest.mark.parametrize("labels", [np.linspace(0, 1, 50), np.full(50, 2)])
def test_labels_of_one_output_that_are_no_classes(x, labels):
    def model():
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, name="only")])

    with pytest.raises(DataError, match="for which a class is 0 or 1"):
        compare(model(), model(), x, labels)
