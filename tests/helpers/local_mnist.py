"""Where MNIST is on this machine: tests and the site of the documents download nothing."""

import os
from pathlib import Path


def candidates():
    """Return the paths that it may have, the first choice first.

    It is the file that the variable QFRAME_MNIST names, else Keras's own download, else
    a `data/mnist.npz` in a folder beside this checkout.
    """
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    return [
        *([Path(os.environ["QFRAME_MNIST"])] if "QFRAME_MNIST" in os.environ else []),
        keras_home / "datasets" / "mnist.npz",
        *sorted(Path(__file__).parents[3].glob("*/data/mnist.npz")),
    ]


def find():
    """Return the first existing path, or None."""
    return next((path for path in candidates() if path.is_file()), None)
