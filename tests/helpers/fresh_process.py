"""Load models in a fresh process, and write their outputs and states to files.

Usage: python fresh_process.py FOLDER NAME...

For each name of a topology, ``FOLDER/NAME.keras`` is loaded; the arrays go to
``FOLDER/NAME.loaded.npz`` and the rest to ``FOLDER/loaded.json``. The process imports the
module with the custom classes, but no model.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

import qframe as qf
from qframe.layers.tree import sites
from qframe.registry.configurable import described
from topology_models import named


def arrays(topology, model):
    """All that loading must restore: bit for bit, except predictions.

    TensorFlow sorts the terms of sums in a compiled call by names, which differ here.
    """
    results = {f"output {i}": value for i, value in enumerate(topology.call(model))}
    for i, value in enumerate(topology.predict(model)):
        # NumPy's files know no bfloat16 to compute with.
        results[f"predicted {i}"] = value.astype("float64")
    for kind, variables in (
        ("weight", model.weights),
        ("optimizer", model.optimizer.variables if model.optimizer else []),
    ):
        for i, variable in enumerate(variables):
            results[f"{kind} {i}"] = ops.convert_to_numpy(variable)
    return results


def quantized(model):
    """The filled slots and the constraints of a model, by path."""
    results = {}
    for site in sites(model):
        if isinstance(site.layer, qf.layers.Quantized):
            settings = {
                f"{s}_quantizer": described(q) for s, q in site.layer.quantizers.items()
            }
            for weight in site.layer.adapter.weights:
                key = f"{weight.prefix}_constraint"
                settings[key] = described(getattr(site.layer, key, None))
                variable = getattr(site.layer, weight.attribute)
                settings[f"applied {key}"] = described(
                    getattr(variable, "constraint", None)
                )
            results[site.path] = settings
    return results


def steps(model):
    """The number of steps of the optimizer."""
    # Keras 3.5 does not count those of an optimizer that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return int(optimizer.iterations)


def visit(topology, folder):
    model = qf.load_model(folder / f"{topology}.keras")
    np.savez(folder / f"{topology}.loaded.npz", **arrays(topology, model))
    results = {"quantized": quantized(model)}
    if model.optimizer and topology.trains:
        # Eagerly where that is quicker than compiling.
        model.run_eagerly = keras.backend.backend() == "tensorflow" and not topology.xla
        before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
        results["loss"] = topology.fit(model)
        results["steps"] = steps(model)
        results["moved"] = any(
            (ops.convert_to_numpy(variable) != value).any()
            for variable, value in zip(model.trainable_variables, before, strict=True)
        )
    qf.strip(model)
    results["stripped"] = quantized(model)
    return results


def main(folder, *names):
    folder = Path(folder)
    results = {}
    for name in names:
        try:
            results[name] = visit(named(name), folder)
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    (folder / "loaded.json").write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
