"""The process that runs the cells of the pages: quiet, and the same from page to page.

docs/_ext/cells.py has it import this module and call `begin_page` before each page.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

# Compiled libraries say there which processor they found. What Python writes to sys.stderr,
# such as warnings, goes another way and is kept.
with open(os.devnull, "wb") as nowhere:
    os.dup2(nowhere.fileno(), 2)

import absl.logging
import keras
import matplotlib
import numpy as np
import tensorflow
from IPython import get_ipython
from matplotlib import pyplot

from qframe.registry.discovery import registry

# What they advise is not about the pages, such as that functions are traced again.
absl.logging.set_verbosity(absl.logging.ERROR)
tensorflow.get_logger().setLevel("ERROR")
# The same numbers in each build on the same machine.
tensorflow.config.experimental.enable_op_determinism()

# The colours of the pictures of qframe, on white, with room for a page of any width.
STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=["#20639b", "#d1495b", "#9aa5b1"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (5.0, 2.8),
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "svg.hashsalt": "qframe",
}


def local_mnist(path: str = "mnist.npz") -> Any:
    """`keras.datasets.mnist.load_data`, from the file that QFRAME_MNIST names."""
    with np.load(os.environ["QFRAME_MNIST"]) as arrays:
        train, test = (
            (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")
        )
    return train, test


if "QFRAME_MNIST" in os.environ:
    keras.datasets.mnist.load_data = local_mnist


def begin_page() -> None:
    """Forget the page before, and go to an empty folder."""
    shell = get_ipython()
    shell.reset(new_session=True)
    shell.run_line_magic("matplotlib", "inline")
    shell.run_line_magic("config", "InlineBackend.figure_formats = ['svg']")
    shell.run_line_magic(
        "config", "InlineBackend.print_figure_kwargs = {'metadata': {'Date': None}}"
    )
    pyplot.close("all")
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    registry.forget_local()
    keras.utils.clear_session()
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    os.chdir(tempfile.mkdtemp())
