"""Weight files of Larq and Keras 2: all of what fits is loaded, and nothing else."""

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError, DataError, NotBuiltError, QFrameError

BINARY = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape).astype("float32")


def write(path, entries, names=None, split=False):
    """A file as Keras 2 writes it: the weights of each layer, by the names of variables."""
    with h5py.File(path, "w") as file:
        listed = [n.encode() for n in (names or entries)]
        if split:
            for i, name in enumerate(listed):
                file.attrs[f"layer_names{i}"] = [name]
        else:
            file.attrs["layer_names"] = listed
        for layer, weights in entries.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, value in weights.items():
                group.create_dataset(name, data=value)
    return path


def norm(name, size, **others):
    kinds = ("gamma", "beta", "moving_mean", "moving_variance")
    values = {f"{name}/{kind}:0": array(size) for kind in kinds}
    return {**values, **others}


def model():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            qf.layers.QuantConv2D(4, 3, use_bias=False, **BINARY),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            qf.layers.QuantDepthwiseConv2D(3),
            layers.Flatten(),
            qf.layers.QuantDense(5, **BINARY),
        ],
        name="small",
    )


def entries():
    """The tensors of a file for `model`."""
    return {
        "quant_conv2d_7": {"quant_conv2d_7/kernel:0": array(3, 3, 3, 4)},
        "max_pooling2d": {},
        "batch_normalization_3": norm("batch_normalization_3", 4),
        "quant_depthwise_conv2d": {
            "quant_depthwise_conv2d/depthwise_kernel:0": array(3, 3, 4, 1),
            "quant_depthwise_conv2d/bias:0": array(4),
        },
        "flatten": {},
        "quant_dense": {
            "quant_dense/kernel:0": array(4, 5),
            "quant_dense/bias:0": array(5),
        },
    }


def arrays(made):
    return [keras.ops.convert_to_numpy(v) for v in made.weights]


def flat(written):
    return [value for weights in written.values() for value in weights.values()]


def assert_same(result, expected):
    assert len(result) == len(expected)
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_are_those_of_the_file(tmp_path):
    made, written = model(), entries()
    match = qf.load_larq_weights(made, write(tmp_path / "w.h5", written))
    assert_same(arrays(made), flat(written))
    assert len(match.pairs) == 4
    assert "4 layers loaded" in str(match)
    assert "moving_mean (4,)" in match._repr_html_()


def test_long_lists_of_names_are_split_by_keras(tmp_path):
    made, written = model(), entries()
    qf.load_larq_weights(made, write(tmp_path / "w.h5", written, split=True))
    assert_same(arrays(made), flat(written))


def test_a_whole_model_and_what_keras_3_writes(tmp_path):
    ours, theirs = model(), model()
    for variable in theirs.weights:
        variable.assign(array(*variable.shape))
    theirs.save(tmp_path / "whole.h5")
    qf.load_larq_weights(ours, tmp_path / "whole.h5")
    assert_same(arrays(ours), arrays(theirs))


def test_larqs_metrics_are_passed_over(tmp_path):
    made, written = model(), entries()
    folder = "quant_dense/flip_ratio/ste_sign"
    kept = flat(written)
    written["quant_dense"] |= {
        f"{folder}/previous_values:0": np.ones((4, 5), "int8"),
        f"{folder}/total:0": np.float32(3),
        f"{folder}/count:0": np.float32(3),
    }
    qf.load_larq_weights(made, write(tmp_path / "w.h5", written))
    assert_same(arrays(made), kept)
    # A layer that is called so is none.
    inner = {"flip_ratio/kernel:0": array(4, 5), "flip_ratio/bias:0": array(5)}
    made, written = model(), {**entries(), "quant_dense": inner}
    qf.load_larq_weights(made, write(tmp_path / "w.h5", written))
    assert_same(arrays(made), flat(written))


def test_the_order_within_a_layer_does_not_count(tmp_path):
    # What is frozen is saved behind the rest.
    made, written = model(), entries()
    expected = flat(written)
    turned = dict(reversed(written["batch_normalization_3"].items()))
    qf.load_larq_weights(
        made, write(tmp_path / "w.h5", {**written, "batch_normalization_3": turned})
    )
    assert_same(arrays(made), expected)


def test_layers_are_taken_in_the_order_of_their_list(tmp_path):
    sizes = {"dense_10": 3, "dense_9": 3, "dense": 3}
    made = keras.Sequential([keras.Input((3,)), *(layers.Dense(3) for _ in sizes)])
    written = {
        name: {f"{name}/kernel:0": array(3, size), f"{name}/bias:0": array(size)}
        for name, size in sizes.items()
    }
    path = write(tmp_path / "w.h5", written, names=["dense_9", "dense", "dense_10"])
    qf.load_larq_weights(made, path)
    assert_same(
        arrays(made), flat({n: written[n] for n in ("dense_9", "dense", "dense_10")})
    )


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(), layers.Dense(4), layers.Dense(4)]
    )
    return keras.Sequential([keras.Input((4,)), layers.Dense(4), inner])


def test_a_model_in_a_model(tmp_path):
    made = nested()
    kinds = {
        # Keras 2 saves what learns first, and of all layers inside.
        "batch_normalization/gamma:0": 4,
        "batch_normalization/beta:0": 4,
        "dense_1/kernel:0": (4, 4),
        "dense_1/bias:0": 4,
        "dense_2/kernel:0": (4, 4),
        "dense_2/bias:0": 4,
        "batch_normalization/moving_mean:0": 4,
        "batch_normalization/moving_variance:0": 4,
    }
    inside = {name: array(*np.atleast_1d(shape)) for name, shape in kinds.items()}
    dense = {"dense/kernel:0": array(4, 4), "dense/bias:0": array(4)}
    path = write(tmp_path / "w.h5", {"dense": dense, "sequential": inside})
    qf.load_larq_weights(made, path)
    learned, kept = [*dense.values(), *list(inside.values())[:6]], list(inside.values())[6:]
    assert_same([keras.ops.convert_to_numpy(v) for v in made.trainable_weights], learned)
    assert_same([keras.ops.convert_to_numpy(v) for v in made.non_trainable_weights], kept)
    # Another order inside may be another network, whose shapes are the same.
    turned = dict(reversed(inside.items()))
    path = write(tmp_path / "w.h5", {"dense": dense, "sequential": turned})
    with pytest.raises(DataError, match="1 match in order"):
        qf.load_larq_weights(made, path)


@keras.saving.register_keras_serializable("larq_weights")
class Scaled(keras.Model):
    """A model with a weight beside its layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(2)

    def build(self, shape):
        self.scale = self.add_weight(shape=(2,), name="scale")
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs) * self.scale


def test_weights_of_the_model_itself(tmp_path):
    made = Scaled()
    with pytest.raises(NotBuiltError, match="no weights yet"):
        qf.load_larq_weights(made, tmp_path / "w.h5")
    made.build((None, 3))
    dense = {"dense/kernel:0": array(3, 2), "dense/bias:0": array(2)}
    path = write(tmp_path / "w.h5", {"dense": dense})
    with pytest.raises(DataError, match="scale"):
        qf.load_larq_weights(made, path)
    top = {"scale:0": array(2)}
    both = {"dense": dense, "top_level_model_weights": top}
    qf.load_larq_weights(made, write(tmp_path / "w.h5", both, names=["dense"]))
    assert_same([keras.ops.convert_to_numpy(made.scale)], [top["scale:0"]])


def without(written, layer):
    return {name: weights for name, weights in written.items() if name != layer}


def other_layer(written):
    return {**written, "dense_1": {"dense_1/kernel:0": array(5, 2)}}


def other_shape(written):
    return {**written, "quant_conv2d_7": {"q/kernel:0": array(3, 3, 3, 8)}}


def other_name(written):
    return {**written, "quant_conv2d_7": {"q/matrix:0": array(3, 3, 3, 4)}}


def one_more(written):
    return {**written, "quant_conv2d_7": {**written["quant_conv2d_7"], "q/bias:0": [1.0]}}


def other_order(written):
    return dict(reversed(written.items()))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda w: without(w, "quant_dense"), ["3 in the file", "3 match", "- "]),
        (other_layer, ["5 in the file", "4 match", "dense_1"]),
        (other_shape, ["3 match", "(3, 3, 3, 8)", "(3, 3, 3, 4)"]),
        (other_name, ["3 match", "matrix (3, 3, 3, 4)"]),
        (one_more, ["3 match", "bias (1,)"]),
        (other_order, ["in order"]),
        (lambda w: {}, ["0 in the file, 0 match"]),
    ],
)
def test_file_that_does_not_fit_is_refused_and_nothing_is_loaded(change, parts, tmp_path):
    made = model()
    before = arrays(made)
    path = write(tmp_path / "w.h5", change(entries()))
    with pytest.raises(DataError) as caught:
        qf.load_larq_weights(made, path)
    for text in ["not those of 'small'", "Nothing was loaded", *parts]:
        assert text in str(caught.value)
    assert_same(arrays(made), before)


def test_a_long_report_is_cut(tmp_path):
    made = keras.Sequential([keras.Input((2,)), *(layers.Dense(2) for _ in range(40))])
    path = write(tmp_path / "w.h5", entries())
    with pytest.raises(DataError, match="and 28 rows more"):
        qf.load_larq_weights(made, path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "w.h5", entries())


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25)
def test_a_file_that_is_cut_off_anywhere(share, whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "w.h5"
    content = whole.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    made = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    before = arrays(made)
    with pytest.raises(DataError, match="cannot be read as an HDF5 file"):
        qf.load_larq_weights(made, path)
    assert_same(arrays(made), before)


@pytest.mark.parametrize("damage", ["lost layer", "lost weight", "text", "names", "group"])
def test_a_file_that_was_written_wrongly(damage, tmp_path):
    path = write(tmp_path / "w.h5", entries())
    with h5py.File(path, "r+") as file:
        if damage == "lost layer":
            del file["quant_dense"]
        elif damage == "lost weight":
            del file["quant_dense/quant_dense/bias:0"]
        elif damage == "text":
            del file["quant_dense/quant_dense/bias:0"]
            file["quant_dense"]["quant_dense/bias:0"] = "text"
        elif damage == "names":
            file.attrs["layer_names"] = 3
        else:
            del file["quant_dense/quant_dense/bias:0"]
            file["quant_dense"].create_group("quant_dense/bias:0")
    with pytest.raises(DataError, match="cannot be read as an HDF5 file"):
        qf.load_larq_weights(model(), path)


def test_other_files(tmp_path):
    made = model()
    made.save_weights(tmp_path / "keras3.weights.h5")
    with pytest.raises(DataError, match=r"for model\.load_weights"):
        qf.load_larq_weights(made, tmp_path / "keras3.weights.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(DataError, match="cannot be read as an HDF5 file"):
        qf.load_larq_weights(made, tmp_path / "text.h5")
    for name, message in [
        ("none.h5", "does not exist"),
        (".", "not a file"),
        ("text.npz", "not exist"),
    ]:
        with pytest.raises(DataError, match=message):
            qf.load_larq_weights(made, tmp_path / name)


@pytest.mark.parametrize("wrong", [None, "model", layers.Dense(2)])
def test_only_models_have_layers_to_load(wrong):
    with pytest.raises(ArgumentError, match="takes a Keras model"):
        qf.load_larq_weights(wrong, "w.h5")


def test_float16_files_and_models(tmp_path):
    written = {"dense": {"dense/kernel:0": array(2, 3).astype("float16")}}
    path = write(tmp_path / "w.h5", written)
    made = keras.Sequential(
        [keras.Input((2,)), layers.Dense(3, use_bias=False, dtype="mixed_float16")]
    )
    qf.load_larq_weights(made, path)
    (kernel,) = arrays(made)
    assert kernel.dtype == "float32"
    np.testing.assert_array_equal(kernel, flat(written)[0])


def test_errors_are_qframes():
    assert issubclass(DataError, QFrameError)
