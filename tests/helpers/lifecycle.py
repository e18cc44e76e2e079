"""The life of a model, from `quantize` to `strip`, and what must hold in it.

A lifecycle has four parts, the columns of docs/topologies.md; `lifecycles` runs those of
many models, which one fresh process reloads.
"""

import json
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import attrs
import keras
import numpy as np
from keras import ops

import qframe as qf
from fresh_process import arrays, quantized, steps
from qframe.layers.tree import sites

SETTINGS = {"weight_quantizer": "ste_sign", "weight_constraint": "weight_clip"}
COLUMNS = ("quantize", "train", "reload", "strip")


def classes(model):
    return [type(site.layer) for site in sites(model)]


def values(variables):
    return [ops.convert_to_numpy(variable) for variable in variables]


def same(actual, expected, what=""):
    """Raise unless two lists of arrays are equal to the bit."""
    assert len(actual) == len(expected), what
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert a.dtype == b.dtype, f"{what} {i}"
        np.testing.assert_array_equal(a, b, err_msg=f"{what} {i}")


def near(actual, expected, what=""):
    """Raise unless two lists of arrays agree to within float32 rounding."""
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype, what
        np.testing.assert_allclose(a.astype(float), b.astype(float), 1e-5, 1e-6, True, what)


def reported(model, inputs):
    """Raise unless the report of a model with signs for kernels is whole."""
    page = qf.report(model, inputs, verbose=0)
    assert page.weights
    assert page.activations
    assert all(row.noise.signal >= 0 for row in page.activations)
    # Signs for kernels change what some layer returns.
    assert page.activations[0].noise.relative_error != 0
    json.dumps(page.to_dict(), allow_nan=False)
    for row in (*page.weights, *page.activations):
        assert row.path in page.html


def differ(actual, expected):
    """Return whether any two arrays of two lists differ."""
    return any((a != b).any() for a, b in zip(actual, expected, strict=True))


@attrs.define(eq=False)
class Lifecycle:
    """One model, and a folder for its files."""

    topology: object
    folder: Path
    model: object = None
    plain_classes: list = None
    saved: list = None
    steps: int = 0

    def quantize(self):
        """A model that was trained before is quantized, and nothing else changes."""
        topology, self.model = self.topology, self.topology.model()
        model = self.model
        topology.compile(model)
        # A step without tracing: the state of the optimizer is all that this is for.
        model.optimizer.build(model.trainable_variables)
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        gradients = [ops.ones(v.shape, v.dtype) for v in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
        self.steps = 1
        self.plain_classes = classes(model)
        before, slots = values(model.weights), values(model.optimizer.variables)
        plain = topology.call(model)
        planned = qf.plan(model, SETTINGS)
        assert classes(model) == self.plain_classes
        report = qf.quantize(model, SETTINGS)
        assert report.rows == planned.rows
        assert len(report.quantized) == len(quantized(model)) == topology.kernels
        same(values(model.weights), before, "weight")
        same(values(model.optimizer.variables), slots, "optimizer")
        assert steps(model) == self.steps
        assert differ(topology.call(model), plain)

    def train(self):
        model = self.model
        weights = list(self.quantized_weights())
        for weight in weights:
            weight.assign(8 * weight)
        assert max(np.abs(value).max() for value in values(weights)) > 1
        before = values(model.trainable_variables)
        assert np.isfinite(self.topology.fit(model, epochs=2)).all()
        self.steps += 2
        assert steps(model) == self.steps
        assert differ(values(model.trainable_variables), before)
        for value in values(weights):
            assert np.abs(value).max() <= 1

    def quantized_weights(self):
        """The variables that have a quantizer, and so a constraint."""
        for site in sites(self.model):
            if isinstance(site.layer, qf.layers.Quantized):
                for weight in site.layer.adapter.weights:
                    if weight.prefix in site.layer.quantizers:
                        yield getattr(site.layer, weight.attribute)

    def save(self):
        """The inputs of the fresh process, and the results to expect."""
        path = self.folder / f"{self.topology}.keras"
        self.model.save(path)
        np.savez(path.with_suffix(".npz"), **arrays(self.topology, self.model))
        # The names of layers differ between processes, their order does not.
        self.saved = [*quantized(self.model).values()]

    def exchange(self):
        """Weight files of the float model and of this one are the same."""
        file, plain = self.folder / "exchanged.weights.h5", self.topology.model()
        self.model.save_weights(file)
        before, trained = values(plain.weights), self.model.get_weights()
        plain.load_weights(file)
        same(values(plain.weights), trained, "weight")
        assert differ(before, trained)
        plain.set_weights(before)
        plain.save_weights(file)
        with warnings.catch_warnings():
            # Keras warns that the file has nothing for the optimizer.
            warnings.simplefilter("ignore", UserWarning)
            self.model.load_weights(file)
        same(values(self.model.weights), before, "weight")
        self.model.set_weights(trained)

    def reload(self, actual):
        """The fresh process loads what was saved, and training continues there."""
        assert "error" not in actual, actual["error"]
        path = self.folder / str(self.topology)
        with np.load(f"{path}.npz") as saved, np.load(f"{path}.loaded.npz") as loaded:
            assert sorted(loaded) == sorted(saved)
            for key in saved:
                (near if key.startswith("predicted") else same)(
                    [loaded[key]], [saved[key]], key
                )
        assert [*actual["quantized"].values()] == self.saved
        if self.topology.trains:
            assert np.isfinite(actual["loss"]).all()
            assert actual["steps"] == self.steps + 1
            assert actual["moved"]
        assert actual["stripped"] == {}

    def strip(self):
        """The way back and, once more quantized, the way to quantized float weights."""
        model, topology = self.model, self.topology
        latent, outputs = values(model.weights), topology.call(model)
        qf.strip(model)
        assert classes(model) == self.plain_classes
        same(values(model.weights), latent, "weight")
        plain = topology.model()
        plain.set_weights(latent)
        same(topology.call(model), topology.call(plain), "output")
        qf.quantize(model, SETTINGS)
        same(topology.call(model), outputs, "output")
        qf.strip(model, freeze=True)
        assert classes(model) == self.plain_classes
        assert differ(values(model.weights), latent)
        near(topology.call(model), outputs, "output")


def lifecycles(topologies, folder):
    """The failures: the error by topology and column."""
    cycles = [Lifecycle(topology, folder) for topology in topologies]
    errors = {}

    def attempt(cycle, column, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:
            where = str(cycle.topology), column
            errors.setdefault(where, "".join(traceback.format_exception(error)[-2:]))

    for cycle in cycles:
        attempt(cycle, "quantize", cycle.quantize)
        if cycle.topology.trains:
            attempt(cycle, "train", cycle.train)
        attempt(cycle, "reload", cycle.save)
    script = Path(__file__).with_name("fresh_process.py")
    names = [str(cycle.topology) for cycle in cycles if cycle.saved is not None]
    with subprocess.Popen([sys.executable, script, folder, *names]) as process:
        # That takes a while; here there is something to do, too.
        for cycle in cycles:
            if keras.backend.backend() == "tensorflow":
                # Files of weights are arrays, which no backend changes.
                attempt(cycle, "reload", cycle.exchange)
            attempt(cycle, "strip", cycle.strip)
    if process.returncode:
        raise RuntimeError("the fresh process failed; what it said is above")
    actual = json.loads((folder / "loaded.json").read_text("utf-8"))
    for cycle in cycles:
        attempt(cycle, "reload", cycle.reload, actual.get(str(cycle.topology)))
    return errors
