"""Images of handwritten digits: embedded, downloaded, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.errors import DataError, did_you_mean
from qframe.paths import read_arrays

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_EMBEDDED = Path(__file__).with_name("digits.npz")
_EXPECTED = (
    "Expected an .npz file with x_train and x_test, integer images (n, 28, 28) with "
    "pixels 0..255, and y_train and y_test, integer labels (n,) in 0..9."
)


@attrs.frozen
class Digits:
    """Images (n, 28, 28) of uint8 and their labels, to train and to test with."""

    description: str
    epochs: int  # enough for a good accuracy
    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]


def load(source: str) -> Digits:
    """The data that a user named: ``digits``, ``mnist`` or the path of an .npz file.

    Raises:
        DataError: the data does not exist, or has another form.
    """
    if source == "digits":
        return _embedded()
    if source == "mnist":
        return _mnist()
    return _file(source)


def as_input(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images as inputs of the network: from -1 to 1, with a channel axis."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(127.5) - 1


def _embedded() -> Digits:
    with np.load(_EMBEDDED, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ARRAYS}
    for name in ("x_train", "x_test"):
        arrays[name] = _enlarge(arrays[name])
    return Digits("the small handwritten digits of UCI and scikit-learn", 16, **arrays)


def _enlarge(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """8x8 images of 0..16 as 28x28 images of 0..255: bilinear, with a margin."""
    # The centres of the 24 new pixels, as positions between the 8 old ones.
    position = np.clip((np.arange(24) + 0.5) / 3 - 0.5, 0, 7)
    distance = np.abs(position[:, np.newaxis] - np.arange(8))
    weights = np.maximum(1 - distance, 0)
    larger = np.rint(weights @ (images * (255 / 16)) @ weights.T).astype(np.uint8)
    return np.pad(larger, ((0, 0), (2, 2), (2, 2)))


def _mnist() -> Digits:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    # Keras raises a bare Exception, and connections raise many others.
    except Exception as error:
        raise DataError(
            f"MNIST cannot be downloaded: {error}. Where there is no network, write "
            "--data FILE.npz with a copy of Keras's mnist.npz, or --data digits."
        ) from error
    return Digits("MNIST", 6, x_train, y_train, x_test, y_test)


def _file(source: str) -> Digits:
    path = Path(source).expanduser()
    if path.suffix != ".npz":
        raise DataError(
            f"--data {source!r} is neither 'digits' nor 'mnist' nor the path of an .npz "
            f"file.{did_you_mean(source, ('digits', 'mnist'))}"
        )
    if not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{source} {state}. {_EXPECTED}")
    try:
        arrays = read_arrays(path)
    except DataError as error:
        raise DataError(f"{error} {_EXPECTED}") from error
    for name in ARRAYS:
        if name not in arrays:
            names = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(f"{source} has no array {name}; it has {names}. {_EXPECTED}")
    if fault := _fault(arrays):
        raise DataError(f"{source}: {fault}. {_EXPECTED}")
    return Digits(path.name, 6, **{name: arrays[name] for name in ARRAYS})


def _fault(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The fault of the four arrays, or an empty string."""
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        for name, array, shape, top in (
            (f"x_{part}", images, (28, 28), 255),
            (f"y_{part}", labels, (), 9),
        ):
            if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
                return f"{name} has the shape {array.shape}"
            if not np.issubdtype(array.dtype, np.integer):
                return f"{name} holds {array.dtype}, not integers"
            if not len(array):
                return f"{name} is empty"
            if array.min() < 0 or array.max() > top:
                return f"{name} holds values in {array.min()}..{array.max()}"
        if len(images) != len(labels):
            return f"x_{part} has {len(images)} images, y_{part} {len(labels)} labels"
    return ""
