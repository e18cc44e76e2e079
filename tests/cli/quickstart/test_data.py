"""The data of the quickstart."""

from pathlib import Path

import numpy as np
import pytest

from qframe.cli.quickstart.data import as_input, load
from qframe.errors import DataError

pytestmark = pytest.mark.ends


def test_digits():
    digits = load("digits")
    assert digits.x_train.shape == (1437, 28, 28)
    assert digits.x_test.shape == (360, 28, 28)
    for images, labels in (
        (digits.x_train, digits.y_train),
        (digits.x_test, digits.y_test),
    ):
        assert images.dtype == np.uint8
        assert (images.min(), images.max()) == (0, 255)
        counts = np.bincount(labels, minlength=10)
        assert counts.min() > 0.95 * len(labels) / 10  # stratified
    # An empty margin, and digits within it.
    assert not digits.x_train[:, [0, 1, 26, 27]].any()
    assert digits.x_train[:, 14].any()


def test_digits_keep_their_pixels():
    """An enlarged pixel is a mix of its neighbours; far from them it is itself."""
    from qframe.cli.quickstart.data import _enlarge

    image = np.zeros((1, 8, 8), np.uint8)
    image[0, 3, 4] = 16
    larger = _enlarge(image)[0]
    # The centre of pixel (3, 4): 3 new pixels for each old one, and a margin of 2.
    assert larger[2 + 3 * 3 + 1, 2 + 3 * 4 + 1] == 255
    assert np.array_equal(larger[12, 13:18], [85, 170, 255, 170, 85])
    assert larger[:, :12].sum() == 0


def test_no_test_image_is_trained_on():
    digits = load("digits")
    known = {image.tobytes() for image in digits.x_train}
    assert not known & {image.tobytes() for image in digits.x_test}


def test_as_input():
    images = np.array([[[0, 255]]], np.uint8)
    assert np.array_equal(as_input(images), [[[[-1], [1]]]])
    assert as_input(images).dtype == np.float32


def test_file(arrays, save):
    digits = load(save(arrays))
    assert digits.description == "data.npz"
    for name, array in arrays.items():
        assert np.array_equal(getattr(digits, name), array)


def test_file_may_hold_more(arrays, save):
    arrays["labels_of_writers"] = np.zeros(3)
    assert load(save(arrays)).epochs == 6


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("y_test", None, "has no array y_test; it has x_test, x_train, y_train"),
        ("x_train", lambda x: x[..., None], r"x_train has the shape \(64, 28, 28, 1\)"),
        ("x_test", lambda x: x[:, 1:], r"x_test has the shape \(20, 27, 28\)"),
        ("y_train", lambda y: np.eye(10, dtype=int)[y], r"shape \(64, 10\)"),
        ("y_test", lambda y: y[0], r"y_test has the shape \(\)"),
        ("x_train", lambda x: x / 255, "x_train holds float64, not integers"),
        ("x_train", lambda x: x > 9, "x_train holds bool, not integers"),
        ("y_train", lambda y: y.astype(float), "y_train holds float64"),
        ("y_train", lambda y: y.astype(str), "y_train holds <U"),
        ("y_test", lambda y: y.astype(int) - 10, r"y_test holds values in -\d+\.\."),
        ("y_test", lambda y: y + 1, r"y_test holds values in \d\.\.10"),
        ("x_test", lambda x: x.astype(int) * 9, r"x_test holds values in 0\.\.2\d+"),
        ("y_train", lambda y: y[1:], "x_train has 64 images, y_train 63 labels"),
        ("x_test", lambda x: x[:0], "x_test is empty"),
        ("y_train", lambda y: y[:0], "y_train is empty"),
        ("x_train", lambda x: x.astype(object), "cannot be read: Object arrays"),
    ],
)
def test_wrong_arrays(arrays, save, name, change, message):
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays[name])
    with pytest.raises(DataError, match=message) as caught:
        load(save(arrays))
    assert "data.npz" in str(caught.value)
    assert "Expected an .npz file with x_train" in str(caught.value)


def test_spoilt_files(arrays, save, tmp_path):
    good = save(arrays)
    path = tmp_path / "bad.npz"
    with pytest.raises(DataError, match="does not exist"):
        load(str(path))
    spoilt = bytearray(Path(good).read_bytes())
    spoilt[2000] ^= 255
    for content in (b"", b"text", spoilt[:-100], spoilt, b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz cannot be read"):
            load(str(path))
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="holds one array"):
        load(str(path))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="is not a file"):
        load(str(tmp_path / "folder.npz"))


@pytest.mark.parametrize(
    ("source", "hint"),
    [("minst", "Did you mean 'mnist'"), ("data.csv", "path of an .npz"), ("", "")],
)
def test_unknown_source(source, hint):
    with pytest.raises(DataError, match="neither 'digits' nor 'mnist'") as caught:
        load(source)
    assert hint in str(caught.value)


def test_mnist_without_network(monkeypatch):
    import keras

    def fail():
        raise Exception("URL fetch failure on https://example.org: None")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(DataError, match="URL fetch failure") as caught:
        load("mnist")
    assert "--data FILE.npz" in str(caught.value)
    assert "--data digits" in str(caught.value)


def test_mnist(monkeypatch, arrays):
    import keras

    pairs = (
        (arrays["x_train"], arrays["y_train"]),
        (arrays["x_test"], arrays["y_test"]),
    )
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: pairs)
    assert np.array_equal(load("mnist").y_test, arrays["y_test"])
