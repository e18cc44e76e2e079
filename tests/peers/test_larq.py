"""Layers with weights that Larq saved compute here what they compute there.

Larq runs on tf-keras in a separate process: see `larq_side`. The networks marked long
are of the families that the others stand for: `tox run -e larq -- -m "long or not long"`.

Two libraries add floats in different orders, which depend on the processor too. Where a sum
is within rounding of the threshold of a sign, the signs differ, and so does everything
behind them. Therefore each layer gets here what its counterpart got there, to the bit, and
a difference in one layer does not reach the next. What is between the layers with weights,
such as pooling, is compared with them: it makes their inputs.
"""

import functools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest

import qframe as qf
from peers.scripts import many_layers
from qframe.cli.quickstart import network

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


def with_weights(model):
    """The layers that have weights, those of inner models too, in the order of the file."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from with_weights(layer)
        elif layer.weights:
            yield layer


def rounding(layer, inputs, expected):
    """The largest difference of a layer by the order of its additions."""
    if (expected == np.rint(expected)).all():
        # Sums of signs, which are the same in any order.
        return 0
    if isinstance(layer, keras.layers.BatchNormalization):
        # A few operations, each of which rounds what is added.
        scale = 1 / np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
        scale *= np.abs(layer.gamma) if layer.scale else 1
        added = (np.abs(inputs) + np.abs(layer.moving_mean)) * scale
        added += np.abs(layer.beta) if layer.center else 0
        return 16 * np.finfo("float32").eps * added
    # Thousands of operations, whose errors have both signs.
    return 1e-5 * np.abs(expected).max()


def compare(model, saved):
    """Call a model in which each layer with weights gets and gives what Larq's does.

    Returns, for each of what it would get and of what it gives, the largest difference as
    a share of what rounding allows.
    """
    numbers = {id(layer): number for number, layer in enumerate(with_weights(model))}
    calls, shares = Counter(), {}
    call = keras.layers.Layer.__call__

    def checked(result, key, layer=None, inputs=None):
        expected, result = saved[key], np.asarray(result)
        assert result.shape == expected.shape, key
        apart, allowed = np.abs(result - expected), rounding(layer, inputs, expected)
        with np.errstate(divide="ignore"):
            shares[key] = np.divide(apart, allowed, where=apart > 0, out=0 * apart).max()
        return keras.ops.convert_to_tensor(expected)

    @functools.wraps(call)
    def forced(layer, inputs, *args, **kwargs):
        if id(layer) not in numbers:
            return call(layer, inputs, *args, **kwargs)
        number = numbers[id(layer)]
        key = f"{number}.{calls[number]}"
        calls[number] += 1
        inputs = checked(inputs, f"{key}.inputs")
        outputs = call(layer, inputs, *args, **kwargs)
        return checked(outputs, f"{key}.outputs", layer, inputs)

    with mock.patch.object(keras.layers.Layer, "__call__", forced):
        checked(model(saved["x"], training=False), "y")
    assert {*shares} == {*saved} - {"x", "parameters"}
    return shares


def loaded(name, folder):
    """A network with Larq's weights, and what Larq wrote of it."""
    model = build(folder / f"{name}.h5", **{**NETWORKS, **MORE}[name])
    with np.load(folder / f"{name}.npz") as file:
        return model, dict(file)


@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.long) for name in MORE)]
)
def test_layers_given_larqs_inputs_compute_its_outputs(name, larq):
    model, saved = loaded(name, larq)
    # They differ between images by far more than what is allowed.
    assert saved["y"].std(axis=0).max() > 0.01
    shares = compare(model, saved)
    print(f"{name}: {max(shares.values()):.2f} of what rounding allows")
    assert not {key: float(share) for key, share in shares.items() if not share <= 1}
    if name not in ("tutorial", "metrics", "whole", "many_layers"):
        assert model.count_params() == saved["parameters"]


@pytest.mark.parametrize("name", ["many_layers"])
def test_predictions_without_a_threshold_are_those_of_larq(name, larq):
    model, saved = loaded(name, larq)
    layers = [*with_weights(model)]
    assert not any(getattr(layer, "input_quantizer", None) for layer in layers)
    actual = model.predict(saved["x"], verbose=0)
    assert np.abs(actual - saved["y"]).max() <= 1e-4 * np.abs(saved["y"]).max()


def wrong(model, saved):
    """The names of what differs by more than rounding."""
    return {key for key, share in compare(model, saved).items() if not share <= 1}


def changed(layer, index, factor):
    """Multiply a number of the first weight of a layer."""
    first, *others = layer.get_weights()
    first[index] *= factor
    layer.set_weights([first, *others])


def placed(layer, slot, quantizer):
    layer.quantizers[slot] = quantizer


# Faults of a convolution with quantizers, or of the batch normalization behind it.
FAULTS = {
    "padding": (0, lambda layer: setattr(layer, "pad_values", 0.0)),
    "input quantizer": (0, lambda layer: placed(layer, "input", "ste_heaviside")),
    "kernel quantizer": (0, lambda layer: placed(layer, "kernel", "magnitude_aware_sign")),
    "turned kernel": (0, lambda layer: layer.set_weights([layer.get_weights()[0][::-1]])),
    "one sign": (0, lambda layer: changed(layer, (1, 1, 0, 0), -1)),
    "epsilon": (1, lambda layer: setattr(layer, "epsilon", layer.epsilon / 10)),
    "one scale": (1, lambda layer: changed(layer, 0, 1 + 1e-5)),
}


@pytest.mark.parametrize("name", ["QuickNetSmall"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_layer_is_noticed_there_alone(fault, name, larq):
    model, saved = loaded(name, larq)
    layers = [*with_weights(model)]
    place, make = FAULTS[fault]
    place += next(n for n, e in enumerate(layers) if isinstance(e, qf.layers.QuantConv2D))
    make(layers[place])
    assert wrong(model, saved) == {f"{place}.0.outputs"}


@pytest.mark.parametrize("name", ["QuickNetSmall"])
def test_exchanged_weights_are_noticed(name, larq):
    model, saved = loaded(name, larq)
    layers = [*with_weights(model)]
    places = [n for n, e in enumerate(layers) if isinstance(e, qf.layers.QuantConv2D)][:2]
    one, other = (layers[place] for place in places)
    weights = one.get_weights(), other.get_weights()
    one.set_weights(weights[1])
    other.set_weights(weights[0])
    assert wrong(model, saved) == {f"{place}.0.outputs" for place in places}
