"""Quantize, train, save, reload in a fresh process and strip, on every topology."""

import copy
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import qframe as qf
from topologies import TOPOLOGIES

WORDS = {
    "weight_quantizer": "ste_sign",
    "weight_constraint": "weight_clip",
}
each_topology = pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)


def classes(model):
    from qframe.layers.tree import sites

    return [type(site.layer) for site in sites(model)]


def predict(model, x):
    return np.asarray(model.predict(x, verbose=0))


def count(model):
    from qframe.layers.tree import sites

    return sum(isinstance(site.layer, qf.layers.Quantized) for site in sites(model))


@each_topology
def test_quantize_and_strip(topology):
    model = topology.model()
    x = topology.inputs()
    before, plain, weights = classes(model), predict(model, x), model.get_weights()
    planned = qf.plan(model, WORDS)
    assert classes(model) == before
    report = qf.quantize(model, WORDS)
    assert report.rows == planned.rows
    assert len(report.quantized) == count(model) == topology.kernels
    quantized = predict(model, x)
    assert np.abs(quantized - plain).max() > 1e-6
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)
    # The same as the plain model with signs for kernels.
    qf.strip(model, freeze=True)
    assert classes(model) == before
    np.testing.assert_allclose(predict(model, x), quantized, rtol=1e-5, atol=1e-6)
    model.set_weights(weights)
    np.testing.assert_array_equal(predict(model, x), plain)


@pytest.mark.long  # a step of training is in the test of the fresh process too
@each_topology
def test_training_goes_on(topology):
    model = topology.model()
    x = topology.inputs(8)
    y = np.zeros_like(predict(model, x))
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    steps = int(model.optimizer.iterations)
    qf.quantize(model, WORDS)
    before = model.get_weights()
    model.fit(x, y, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == steps + 2
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    from qframe.layers.tree import sites

    for site in sites(model):
        if isinstance(site.layer, qf.layers.Quantized):
            for weight in site.layer.adapter.weights:
                if weight.prefix in site.layer.quantizers:
                    value = np.array(getattr(site.layer, weight.attribute))
                    assert np.abs(value).max() <= 1


@pytest.mark.long
@each_topology
def test_weight_files_interchange_with_float(topology, tmp_path):
    plain, quantized = topology.model(), topology.model()
    qf.quantize(quantized, WORDS)
    quantized.save_weights(tmp_path / "q.weights.h5")
    plain.load_weights(tmp_path / "q.weights.h5")
    for a, b in zip(plain.get_weights(), quantized.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = topology.model()
    other.save_weights(tmp_path / "f.weights.h5")
    quantized.load_weights(tmp_path / "f.weights.h5")
    for a, b in zip(other.get_weights(), quantized.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.long
@each_topology
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_copies(topology, copied):
    model = topology.model()
    qf.quantize(model, WORDS)
    again = copied(model)
    assert count(again) == topology.kernels
    x = topology.inputs()
    np.testing.assert_array_equal(predict(again, x), predict(model, x))


@pytest.mark.long
@pytest.mark.parametrize(
    "topology", [t for t in TOPOLOGIES if t.name != "subclassed"], ids=str
)
def test_clones(topology):
    # Keras itself clones no subclassed model.
    model = topology.model()
    qf.quantize(model, WORDS)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert count(clone) == topology.kernels
    x = topology.inputs()
    np.testing.assert_array_equal(predict(clone, x), predict(model, x))


def test_a_subclassed_model_from_its_config_is_quantized_from_the_first_call():
    (topology,) = [t for t in TOPOLOGIES if t.name == "subclassed"]
    model = topology.model()
    qf.quantize(model, WORDS)
    again = type(model).from_config(model.get_config())
    x = topology.inputs()
    first = keras.ops.convert_to_numpy(again(x))
    assert count(again) == topology.kernels
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(predict(again, x), predict(model, x), rtol=1e-5)
    assert not np.array_equal(first, predict(again, x))


def test_a_plan_for_layers_that_are_not_there_is_an_error():
    (topology,) = [t for t in TOPOLOGIES if t.name == "layer of layers"]
    model = topology.model()
    qf.quantize(model, WORDS)
    block = model.layers[-1]
    config = keras.saving.serialize_keras_object(block)
    ((_, words),) = config["config"]["plan"].items()
    config["config"]["plan"] = {"7": words}
    with pytest.raises(qf.errors.QFrameError, match="positions 7"):
        keras.saving.deserialize_keras_object(config)


def test_every_topology_reloads_in_a_fresh_process(tmp_path):
    for topology in TOPOLOGIES:
        model = topology.model()
        qf.quantize(model, WORDS)
        x = topology.inputs()
        y = np.zeros_like(predict(model, x))
        model.compile("adam", "mse")
        model.fit(x, y, verbose=0)
        model.save(tmp_path / f"{topology}.keras")
        np.save(tmp_path / f"{topology}.npy", predict(model, x))
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import numpy as np
        import qframe as qf
        from topologies import TOPOLOGIES
        from qframe.layers.tree import sites
        for topology in TOPOLOGIES:
            path = {str(tmp_path)!r} + f"/{{topology}}.keras"
            model = qf.load_model(path)
            found = model.predict(topology.inputs(), verbose=0)
            expected = np.load({str(tmp_path)!r} + f"/{{topology}}.npy")
            np.testing.assert_array_equal(found, expected, err_msg=str(topology))
            layers = [site.layer for site in sites(model)]
            count = sum(isinstance(layer, qf.layers.Quantized) for layer in layers)
            assert count == topology.kernels, (str(topology), count)
            assert int(model.optimizer.iterations) == 1, str(topology)
            constrained = [v for v in model.trainable_variables if v.constraint is not None]
            assert len(constrained) >= count, str(topology)
            y = np.zeros_like(expected)
            model.fit(topology.inputs(), y, verbose=0)
            qf.strip(model)
            assert not any(isinstance(s.layer, qf.layers.Quantized) for s in sites(model))
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr[-3000:]


def test_the_topology_with_two_inputs_and_outputs():
    from topologies import _branches

    model = _branches()
    x = [np.ones((2, 8), "float32"), np.zeros((2, 8), "float32")]
    model(x)
    report = qf.quantize(model, WORDS)
    assert len(report.quantized) == 4
    model.compile("sgd", ["mse", "mse"])
    model.fit(x, [np.zeros((2, 2)), np.zeros((2, 3))], verbose=0)
    assert keras.models.clone_model(model).count_params() == model.count_params()
