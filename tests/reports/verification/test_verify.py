"""`qf.verify`: data of every kind, labels, reports and errors."""

import attrs
import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from exact_networks import SHAPE, SIGN, exported, integers, network
from qframe.errors import (
    ArgumentError,
    DataError,
    NotBuiltError,
    PluginError,
    VerificationError,
)
from qframe_packed import files

pytestmark = [
    pytest.mark.ends,
    # Keras says so of wrong data, before qframe does.
    pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match"),
]

# The edges that a packed file of the model has: thresholds replace `norm1`, and the pool
# moves behind them.
EDGES = ["conv1", "conv2:input", "conv2", "norm2", "head:input", "head"]


def verified(model, path, data, labels=None, **options):
    return qf.verify(model, path, data, labels, verbose=0, **options)


def test_verify_a_right_file_is_equal_everywhere(model, path, x):
    actual = verified(model, path, x)
    assert (actual.equal, actual.same_class, actual.examples) == (1, 1, len(x))
    assert [edge.name for edge in actual.edges] == EDGES
    assert all(edge.agreement.equal == 1 for edge in actual.edges)
    assert actual.first_difference is None
    assert actual.accuracy_model is actual.accuracy_file is None
    shapes = [(6, 6, 8), (3, 3, 8), (2, 2, 4), (2, 2, 4), (16,), (3,)]
    sizes = [edge.agreement.count for edge in actual.edges]
    assert sizes == [len(x) * np.prod(shape) for shape in shapes]
    actual.check(equal=1, same_class=1)


class Batches(keras.utils.PyDataset):
    """Batches with labels, which are not used."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8], np.zeros(8)


def generator(x):
    """A generator without an end."""
    while True:
        yield (x[:8],)


def native(x):
    """The data set of the backend."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.tensor(x)), 9
        )
    tensorflow = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
    return tensorflow.data.Dataset.from_tensor_slices(x).batch(9)


@pytest.mark.parametrize(
    ("make", "options", "count"),
    [
        (list, {}, None),
        (lambda x: x, {"batch_size": 7}, 40),
        (lambda x: x.astype("int32"), {"batch_size": 64}, 40),
        (lambda x: x, {"batch_size": 8, "steps": 2}, 16),
        (Batches, {}, 40),
        (generator, {"steps": 3}, 24),
        (native, {}, 40),
    ],
    ids=["list", "array", "int32", "steps", "py_dataset", "generator", "native"],
)
def test_verify_takes_what_predict_takes(model, path, x, make, options, count):
    if count is None:
        with pytest.raises(DataError, match=r"the data has 40 arrays|cannot be read"):
            verified(model, path, make(x), **options)
        return
    actual = verified(model, path, make(x), edge_examples=10, **options)
    assert (actual.examples, actual.edge_examples) == (count, 10)
    assert actual.equal == 1
    assert [edge.agreement.count for edge in actual.edges][-1] == 10 * 3


def test_verify_without_edges(model, path, x):
    actual = verified(model, path, x, edge_examples=0)
    assert (actual.edges, actual.edge_examples, actual.equal) == ((), 0, 1)
    assert actual.conclusion == "No edges were compared. The outputs are equal."


def test_verify_leaves_the_model_as_it_was(model, path, x):
    before = model.predict(x, verbose=0)
    verified(model, path, x[:8])
    assert "predict_step" not in vars(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def two_ways():
    """A model with inputs and outputs by name, in another order than that of the names."""
    keras.utils.set_random_seed(0)
    wide, narrow = keras.Input((4,), name="wide"), keras.Input((2,), name="narrow")
    settings = {"input_quantizer": "ste_sign", **SIGN}
    one = qf.layers.QuantDense(3, name="one", use_bias=False, **settings)(wide)
    other = qf.layers.QuantDense(1, name="other", use_bias=False, **settings)(narrow)
    inputs, outputs = {"wide": wide, "narrow": narrow}, {"z": one, "a": other}
    return keras.Model(inputs, outputs)


def test_verify_several_inputs_and_outputs(tmp_path):
    model = two_ways()
    path = exported(model, tmp_path)
    data = {"wide": integers(12, (4,)), "narrow": integers(12, (2,), seed=1)}
    results = {key: np.asarray(y) for key, y in model.predict(data, verbose=0).items()}
    classes = results["z"].argmax(-1)
    ones = keras.utils.to_categorical(classes, 3)
    signs = np.where(results["a"] > 0, 1, -1)
    names = [tensor.shape[-1] for tensor in model.outputs]
    labels = [{3: ones, 1: signs}[size] for size in names]
    actual = verified(model, path, data, labels)
    assert actual.equal == actual.same_class == 1
    assert [o.accuracy_model for o in actual.outputs] == [1, 1]
    assert [o.accuracy_file for o in actual.outputs] == [1, 1]
    assert {edge.name for edge in actual.edges} == {
        "one:input",
        "one",
        "other:input",
        "other",
    }
    assert actual.within_one_step is None
    some = verified(model, path, data, [None, labels[1]])
    assert some.outputs[0].accuracy_model is None
    assert some.accuracy_file == 1
    with pytest.raises(ArgumentError, match=r"has 2 outputs, .* and labels is ndarray"):
        verified(model, path, data, ones)
    with pytest.raises(DataError, match=r"the data has examples of|does not fit"):
        verified(model, path, {"wide": data["wide"]})


def test_verify_with_labels_gives_both_accuracies(model, path, x):
    # Another head, so that the file has another accuracy.
    other = network()
    other.get_layer("head").bias.assign([5.0, -5.0, 0.0])
    labels = np.asarray(model.predict(x, verbose=0)).argmax(-1)
    actual = verified(other, path, x, labels)
    assert actual.accuracy_file == 1
    expected = np.asarray(other.predict(x, verbose=0)).argmax(-1) == labels
    assert actual.accuracy_model == actual.same_class == expected.mean() < 1
    assert actual.first_difference.name == "head"
    assert verified(other, path, x, labels[:, None]).accuracy_model == expected.mean()
    for wrong, why in (
        (labels[:7], "the labels have the shape"),
        (labels + 9, "is a label"),
    ):
        with pytest.raises(DataError, match=why):
            verified(model, path, x, wrong)


def test_check_raises_below_the_shares_that_are_asked_for(path, x):
    other = network()
    other.get_layer("head").bias.assign([1.0, 0.0, 0.0])
    actual = verified(other, path, x)
    assert actual.equal == 2 / 3
    actual.check()
    actual.check(equal=0.66)
    with pytest.raises(
        VerificationError,
        match=r"equal is 0.666667, less than 0.7\. They first differ at 'head'",
    ):
        actual.check(equal=0.7, same_class=0)
    for share in (1.5, -1, True, float("nan")):
        with pytest.raises(
            ArgumentError, match="equal of check must be a share from 0 to 1"
        ):
            actual.check(equal=share)
    with pytest.raises(ArgumentError, match="no output of the model is quantized"):
        actual.check(within_one_step=1)


def test_report_shows_the_edges_around_the_first_difference(path, x):
    other = network()
    other.get_layer("norm2").beta.assign([0.0, 3.0, 0.0, 0.0])
    actual = verified(other, path, x)
    text = str(actual)
    for part in ("packed file, 40 examples", "edges, 40 examples", "| conv2 ", "| norm2 "):
        assert part in text
    # Before the last edge that is equal.
    assert "| conv1 " not in text
    assert "3 more edges are not shown" not in text
    first = actual.first_difference
    assert text.endswith(
        f"They first differ at 'norm2', in {40 * 4} of {40 * 16} numbers, by at most 3."
    )
    assert (first.agreement.largest, first.agreement.mean) == (3, 0.75)
    assert "norm2" in actual._repr_html_()
    figures = actual.to_dict()
    assert figures["first_difference"] == "norm2"
    assert [edge["name"] for edge in figures["edges"]] == EDGES
    assert figures["equal"] == actual.equal


def test_other_weights_are_a_report_and_other_shapes_an_error(model, path, x, tmp_path):
    other = network(seed=1)
    assert verified(other, path, x).first_difference.name == "conv1"
    wider = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(4)])
    with pytest.raises(
        ArgumentError, match=r"returns \(3,\) for each example, and .* \(4,\)"
    ):
        verified(wider, path, x)
    narrow = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(
        ArgumentError, match=r"takes \(8, 8, 2\) .* the file of another model"
    ):
        verified(narrow, path, x)
    with pytest.raises(
        ArgumentError, match=r"takes \(8, 8, 2\) .* takes \(2,\) and \(4,\)"
    ):
        verified(two_ways(), path, x)


def test_wrong_data_is_an_error(model, path, x):
    for data, why in (
        (x[:0], "is empty"),
        (x[:, :5], r"data has the shape \(40, 5, 8, 2\)"),
        ([x, x], "the data has 2 arrays"),
        (((part,) for part in [x[:, :5]]), "the data has examples of|does not fit"),
        ((part for part in ()), "empty|cannot be read"),
        ("m.npz", "data is 'm.npz'"),
        (None, "the verification data is None"),
        ([], "the verification data is empty"),
    ):
        with pytest.raises(DataError, match=why):
            verified(model, path, data)


def test_wrong_models_and_options_are_errors(model, path, x):
    with pytest.raises(ArgumentError, match=r"verification takes a keras.Model, found 'm'"):
        verified("m", path, x)
    with pytest.raises(NotBuiltError):
        verified(keras.Sequential([layers.Dense(2)]), path, x)
    with pytest.raises(ArgumentError, match="edge_examples of verify must be an integer"):
        verified(model, path, x, edge_examples=-1)
    with pytest.raises(DataError, match="NaN is in 1 numbers of a batch"):
        verified(model, path, np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x))
    for tolerance in (0, float("nan"), float("inf"), "1"):
        with pytest.raises(ArgumentError, match="tolerance of verify must be"):
            verified(model, path, x, tolerance=tolerance)


def test_sums_of_integers_that_nothing_rounds_are_not_counted_in_steps(tmp_path):
    options = {"input_quantizer": "dorefa(k_bit=4)", "kernel_quantizer": "integer"}
    layer = qf.layers.QuantDense(2, use_bias=False, **options)
    model = keras.Sequential([keras.Input((4,)), layer, layers.Reshape((2, 1))])
    qf.export(model, tmp_path / "m.safetensors", target="packed")
    found = verified(model, tmp_path / "m.safetensors", np.ones((3, 4), "float32"))
    assert (found.equal, found.within_one_step) == (1, None)


def test_wrong_files_are_errors(model, path, x, tmp_path, monkeypatch):
    content = path.read_bytes()
    with pytest.raises(DataError, match="does not exist"):
        verified(model, tmp_path / "absent.safetensors", x)
    path.write_bytes(content[:-9])
    with pytest.raises(DataError, match="is not a packed model, or is damaged"):
        verified(model, path, x)
    other = tmp_path / "m.bin"
    other.write_bytes(content)
    with pytest.raises(
        ArgumentError, match=r"no runtime is known for .*m\.bin\. These files"
    ):
        verified(model, other, x)
    with pytest.raises(qf.errors.UnknownNameError, match="Did you mean 'packed'"):
        verified(model, path, x, target="paked")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(PluginError, match=r"pip install 'keras-qframe\[packed\]'"):
        verified(model, path, x)


def test_a_file_that_names_no_edges_is_compared_by_its_outputs(model, path, x):
    graph = files.read(path)
    nodes = tuple(attrs.evolve(node, edge="") for node in graph.nodes)
    path.write_bytes(files.encode(attrs.evolve(graph, nodes=nodes)))
    actual = verified(model, path, x)
    assert (actual.edges, actual.equal) == ((), 1)


PLUGIN = """
import qframe
from qframe.registry.components import exporter

@qframe.hookimpl
def qframe_components():
    yield exporter("mute", "mutes_m:Mute", suffix=".mute")
    yield exporter("again", "mutes_m:Mute", suffix=".safetensors", runtime="mutes_m")

class Mute:
    def __call__(self, model, path):
        path.write_text("")

class Doubled:
    def __init__(self, runtime):
        self.runtime = runtime
        self.input_shapes, self.output_shapes = runtime.input_shapes, runtime.output_shapes

    def predict(self, x):
        return 2 * self.runtime.predict(x)

def load(path):
    return Doubled(qframe.packed.load(path))
"""


def test_targets_of_plugins(model, path, x, tmp_path, install):
    install("mutes", PLUGIN)
    silent = tmp_path / "m.mute"
    silent.write_text("")
    with pytest.raises(ArgumentError, match="'mutes:mute' has no runtime"):
        verified(model, silent, x, target="mute")
    with pytest.raises(ArgumentError, match=r"several .*'mutes:again', 'packed:packed'"):
        verified(model, path, x)
    assert verified(model, path, x, target="packed").equal == 1
    # A runtime that shows no edges.
    actual = verified(model, path, x, target="again")
    expected = np.asarray(model.predict(x, verbose=0))
    assert actual.edges == ()
    assert actual.equal == (expected == 0).mean()
    assert actual.outputs[0].agreement.largest == np.abs(expected).max()
    assert actual.conclusion == "No edges were compared. The outputs differ."
