"""What Larq saves predicts here what it predicts there, for larq-zoo's networks too.

Larq runs on tf-keras in a process of its own: see `larq_side`. The networks marked long
are of the families that the others stand for: `tox run -e larq -- -m "long or not long"`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import qframe as qf
from peers.scripts import many_layers
from qframe.quickstart import network

SIDE = Path(__file__).with_name("larq_side.py")
SMALL = {"input_shape": (64, 64, 3), "num_classes": 10}
TINY = {"input_shape": (32, 32, 3), "num_classes": 10}
NETWORKS = {
    "tutorial": {"network": "tutorial"},
    "metrics": {"network": "tutorial", "metrics": True},
    "whole": {"network": "tutorial", "whole": True},
    "many_layers": {"network": "many_layers"},
    "QuickNetSmall": {"network": "QuickNetSmall", **TINY},
    "BinaryResNetE18": {"network": "BinaryResNetE18", **SMALL},
    "BinaryDenseNet28": {"network": "BinaryDenseNet28", **TINY},
    "BiRealNet": {"network": "BiRealNet", **TINY},
    "RealToBinaryNet": {"network": "RealToBinaryNet", **TINY},
    "DoReFaNet": {"network": "DoReFaNet", **SMALL},
}
MORE = {
    "QuickNet": {"network": "QuickNet", **SMALL},
    "QuickNetLarge": {"network": "QuickNetLarge", **SMALL},
    "BinaryResNetE18 without its top": {
        "network": "BinaryResNetE18",
        "input_shape": (64, 64, 3),
        "include_top": False,
    },
    "BinaryResNetE18 of tiny images": {"network": "BinaryResNetE18", **TINY},
    "BinaryDenseNet28 of larger images": {"network": "BinaryDenseNet28", **SMALL},
    "BinaryDenseNet37": {"network": "BinaryDenseNet37", **SMALL},
    "BinaryDenseNet37Dilated": {"network": "BinaryDenseNet37Dilated", **SMALL},
    "BinaryDenseNet45": {"network": "BinaryDenseNet45", **SMALL},
    "BinaryAlexNet": {"network": "BinaryAlexNet", **SMALL},
    "XNORNet": {"network": "XNORNet", "num_classes": 10},
}


@pytest.fixture(scope="module")
def larq(request, tmp_path_factory):
    """A folder with what Larq wrote for each network of the selected tests."""
    folder = tmp_path_factory.mktemp("larq")
    names = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    wanted = {name: {**NETWORKS, **MORE}[name] for name in names}
    (folder / "wanted.json").write_text(json.dumps(wanted), "utf-8")
    done = subprocess.run(
        [sys.executable, str(SIDE), str(folder)],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def build(path, network, metrics=False, whole=False, **arguments):
    if network in OWN:
        model = OWN[network]()
        qf.load_larq_weights(model, path)
        return model
    return getattr(qf.zoo, network)(weights=path, **arguments)


OWN = {"tutorial": network.build, "many_layers": lambda: many_layers(keras, qf)}


@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.long) for name in MORE)]
)
def test_predictions_are_those_of_larq(name, larq):
    model = build(larq / f"{name}.h5", **{**NETWORKS, **MORE}[name])
    saved = np.load(larq / f"{name}.npz")
    found, expected = model.predict(saved["x"], verbose=0), saved["y"]
    # They differ between images by far more than what is allowed.
    assert expected.std(axis=0).max() > 0.01
    difference = np.abs(found - expected).max()
    print(f"{name}: {difference:.1e} of {np.abs(expected).max():.3g}")
    assert difference < 1e-4 * max(np.abs(expected).max(), 1)
    if name not in ("tutorial", "metrics", "whole", "many_layers"):
        assert model.count_params() == saved["parameters"]
