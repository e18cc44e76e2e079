"""The reference networks: what they cost, that they train, and their arguments."""

from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError, DataError
from qframe.quantizers.differentiation import to_numpy
from qframe.tables import readable, readable_size
from qframe.testing import fresh_process
from qframe.zoo import densenet
from qframe.zoo.network import Design, network

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
# Figures of Larq 0.13.3 for the networks of larq-zoo 2.4.0: `count_params()`, and of its
# summary the size, the MACs and the share of them that are in few bits.
LARQ = {
    "BinaryAlexNet": (61_859_192, "7.45 MiB", "841 M", 0.9134),
    "BiRealNet": (11_699_112, "4.00 MiB", "1.81 B", 0.9240),
    "BinaryResNetE18": (11_699_368, "4.00 MiB", "1.81 B", 0.9240),
    "BinaryDenseNet28": (5_150_504, "4.04 MiB", "3.79 B", 0.9466),
    "BinaryDenseNet37": (8_734_120, "5.13 MiB", "4.71 B", 0.9576),
    "BinaryDenseNet37Dilated": (8_734_120, "5.13 MiB", "8.23 B", 0.9450),
    "BinaryDenseNet45": (13_939_240, "7.35 MiB", "6.67 B", 0.9634),
    "XNORNet": (62_396_768, "22.77 MiB", "1.14 B", 0.9005),
    "DoReFaNet": (62_403_912, "22.80 MiB", "3.05 B", 0.9590),
    "RealToBinaryNet": (11_995_624, "5.13 MiB", "1.81 B", 0.9239),
    "QuickNetSmall": (12_664_344, "4.00 MiB", "1.17 B", 0.9864),
    "QuickNet": (13_243_720, "4.17 MiB", "1.88 B", 0.9842),
    "QuickNetLarge": (23_359_304, "5.40 MiB", "3.73 B", 0.9920),
}
# The number of scales of the signs of a kernel: one for each channel, or for all.
SCALES = {
    "BiRealNet": lambda shape: shape[-1],
    "XNORNet": lambda shape: shape[-1],
    "DoReFaNet": lambda shape: 1,
}
# The published sizes: older ones count all four numbers of a batch normalization.
PUBLISHED = {
    "BinaryAlexNet": 7.49,
    "BiRealNet": 4.03,
    "BinaryResNetE18": 4.03,
    "BinaryDenseNet28": 4.12,
    "XNORNet": 22.81,
    "DoReFaNet": 22.84,
}
# And the newer numbers of parameters count two.
INFERRING = {
    "QuickNetSmall": 12_655_688,
    "QuickNet": 13_234_088,
    "QuickNetLarge": 23_342_248,
}
# The least size of images, where some are too small.
SMALLEST = {"BinaryAlexNet": 57, "XNORNet": 217, "DoReFaNet": 44, "QuickNetSmall": 29}


@network(Design("mini", ("mini-v1/mini.h5", "mini-v1/mini_notop.h5")))
def Mini(images, num_classes):
    """A network with the parts of the others, small enough to compile anywhere.

    Example:
        >>> Mini()
    """
    return densenet._densenet(images, num_classes, (1, 1), (2,), (1, 1))


def test_all_are_here():
    assert {*qf.zoo.literature.__all__, *qf.zoo.sota.__all__} == LARQ.keys()
    assert {*qf.zoo.__all__} == {*LARQ, "literature", "sota"}
    assert qf.zoo.sota.QuickNet is qf.zoo.QuickNet


@pytest.mark.one_case_in(3)
@pytest.mark.long
@pytest.mark.parametrize("name", LARQ)
def test_costs_equal_those_of_larq(name):
    network = getattr(qf.zoo, name)
    model = network()
    profile = qf.models.profile(model)
    parameters, size, macs, few = LARQ[name]
    assert model.count_params() == parameters
    if "+SKIP" in network.__doc__:
        assert f"()  # doctest: +SKIP\n    {parameters}\n" in f"{network.__doc__}\n"
    # Larq counts no scales.
    binary = [w for layer in profile.layers for w in layer.weights if w.bits == 1]
    scales = sum(weight.scale_bits for weight in binary)
    assert scales == 32 * sum(SCALES.get(name, lambda shape: 0)(w.shape) for w in binary)
    memory = profile.memory - scales
    assert readable_size(memory) == size
    assert readable(profile.mac_count()) == macs
    quantized = profile.mac_count() - profile.mac_count(32)
    assert round(quantized / profile.mac_count(), 4) == few
    whole = memory + 32 * (parameters - profile.parameter_count())
    if name in PUBLISHED:
        assert round(whole / 8 / 2**20, 2) == PUBLISHED[name]
    if name in INFERRING:
        assert profile.parameter_count() == INFERRING[name]
    bits = [p for p in profile.mac_precisions if p < 32]
    cells = [
        f"`{name}`",
        f"{parameters:,}".replace(",", " "),
        size,
        readable_size(whole),
        f"{readable(quantized)} of {bits[0]} bit{'s' * (bits[0] > 1)}",
        readable(profile.mac_count(32)),
    ]
    row = f"| {' | '.join(cells)} |"
    assert row in PAGE.read_text("utf-8"), f"write into docs/zoo.md:\n{row}"


def kernels(model):
    return [
        to_numpy(layer.kernel)
        for layer in model.layers
        if isinstance(layer, qf.layers.Quantized)
    ]


def travel(network, folder, size):
    """Build, train a step, save, and load in another process."""
    shape = (size, size, 3)
    model = network(input_shape=shape, num_classes=3)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    # Eagerly, where tracing takes longer than one step.
    eager = keras.backend.backend() != "jax"
    model.compile(
        keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", run_eagerly=eager
    )
    before = kernels(model)
    # A network that is certain has no gradient.
    other = (to_numpy(model(x, training=True)).argmax(-1) + 1) % 3
    assert np.isfinite(model.train_on_batch(x, other))
    for old, new in zip(before, kernels(model), strict=True):
        assert np.isfinite(new).all()
        assert (old != new).any()
    model.save(folder / "model.keras")
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(
        fresh_process.predict(folder / "model.keras", x), expected
    )
    (folder / "model.keras").unlink()


@pytest.mark.ends
def test_a_small_network_travels(tmp_path):
    travel(Mini, tmp_path, 16)


@pytest.mark.one_case_in(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *SMALLEST.items(),
        ("BiRealNet", 32),
        ("BinaryResNetE18", 32),
        ("RealToBinaryNet", 32),
    ],
)
def test_each_family_travels(name, size, tmp_path):
    travel(getattr(qf.zoo, name), tmp_path, size)


@pytest.mark.long
@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_images_that_are_too_small(name, size):
    with pytest.raises(ArgumentError, match="too small"):
        getattr(qf.zoo, name)(input_shape=(size - 1, size - 1, 3))


def test_without_its_top():
    model = qf.zoo.BinaryDenseNet28(input_shape=(32, None, 1), include_top=False)
    assert model.input_shape == (None, 32, None, 1)
    assert model.output_shape == (None, 4, None, 576)
    assert not any(isinstance(layer, keras.layers.Dense) for layer in model.layers)


@pytest.mark.ends
def test_an_input_tensor():
    images = keras.Input((16, 16, 3))
    scaled = keras.layers.Rescaling(0.5)(images)
    model = Mini(input_tensor=scaled, num_classes=3)
    assert keras.Model(images, model.output).output_shape == (None, 3)
    bare = Mini(
        input_tensor=keras.Input((16, 16, 3)), input_shape=(16, 16, 3), num_classes=3
    )
    bare.set_weights(model.get_weights())
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(to_numpy(model(x)), to_numpy(bare(x / 2)), atol=1e-5)


@pytest.mark.ends
def test_weights_of_a_file(tmp_path):
    arguments = {"input_shape": (16, 16, 3), "num_classes": 3}
    model = Mini(**arguments)
    model.save_weights(tmp_path / "ours.weights.h5")
    model.save(tmp_path / "larq.h5")  # as Keras 2 does
    scaled = keras.layers.Rescaling(0.5)(keras.Input((16, 16, 3)))
    for again in (
        Mini(**arguments, weights=tmp_path / "ours.weights.h5"),
        Mini(input_tensor=scaled, num_classes=3, weights=str(tmp_path / "larq.h5")),
    ):
        for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    for file in ("ours.weights.h5", "larq.h5"):
        with pytest.raises(DataError, match=r"not those of|does not hold"):
            Mini(input_shape=(16, 16, 3), weights=tmp_path / file)
    content = (tmp_path / "ours.weights.h5").read_bytes()
    (tmp_path / "cut.weights.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        Mini(**arguments, weights=tmp_path / "cut.weights.h5")


@pytest.mark.parametrize("name", LARQ)
def test_imagenet_says_what_to_do(name):
    network = getattr(qf.zoo, name)
    for top, file in zip((True, False), network.design.files, strict=True):
        with pytest.raises(ArgumentError) as caught:
            network(weights="imagenet", include_top=top)
        message = str(caught.value)
        assert f"https://github.com/larq/zoo/releases/download/{file}" in message
        arguments = "" if top else "include_top=False, "
        call = f"{name}({arguments}weights='{Path(file).name}')"
        assert call in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 10}, "takes no argument 'classes'.*Did you mean 'num_classes'"),
        ({"num_classes": 10, "include_top": False}, "num_classes=10 .* has no effect"),
        ({"num_classes": 0}, "num_classes of QuickNet must be an integer"),
        ({"include_top": 1}, "include_top of QuickNet must be True or False"),
        ({"weights": 3}, "weights of QuickNet must be None or the path"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "must be a Keras tensor"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        qf.zoo.QuickNet(**arguments)


def test_images_that_are_too_narrow():
    # The height says that the first layer may shrink them.
    with pytest.raises(ArgumentError, match=r"images of \(300, 10, 3\), .* too small"):
        qf.zoo.BinaryDenseNet28(input_shape=(300, 10, 3))


@given(
    shape=st.one_of(
        st.integers(),
        st.text(max_size=3),
        st.lists(st.integers(30, 60), max_size=5).filter(lambda shape: len(shape) != 3),
        st.tuples(st.integers(30, 60), st.integers(max_value=0), st.just(3)),
        st.tuples(
            st.integers(30, 60), st.integers(30, 60), st.sampled_from([None, 0, 1.5])
        ),
    )
)
@settings(max_examples=30)
def test_wrong_shapes(shape):
    with pytest.raises(ArgumentError, match=r"must be \(height, width, channels\)"):
        qf.zoo.QuickNet(input_shape=shape)


def test_contradictions():
    with pytest.raises(ArgumentError, match="contradicts its input_tensor"):
        qf.zoo.QuickNet(input_shape=(64, 64, 3), input_tensor=keras.Input((32, 32, 3)))
    with pytest.raises(ArgumentError, match=r"must be \(height"):
        qf.zoo.QuickNet(input_tensor=keras.Input((32,)))
    for name in ("BinaryAlexNet", "XNORNet", "DoReFaNet"):
        with pytest.raises(ArgumentError, match="fixed image size"):
            getattr(qf.zoo, name)(input_shape=(None, None, 3))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        qf.zoo.QuickNet(weights=tmp_path / "none.h5")
    (tmp_path / "model.keras").touch()
    with pytest.raises(DataError, match=r"does not end in \.h5"):
        qf.zoo.QuickNet(weights=tmp_path / "model.keras")


def test_channels_come_last():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ArgumentError, match="set_image_data_format"):
            qf.zoo.QuickNet()
    finally:
        keras.config.set_image_data_format(before)
