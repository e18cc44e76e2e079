"""Load models in a process that has made none, and write down what is found.

Usage: python fresh_process.py FOLDER NAME...

For each name of a topology, ``FOLDER/NAME.keras`` is loaded; the arrays found go to
``FOLDER/NAME.found.npz`` and the rest to ``FOLDER/found.json``. Of the models' makers this
process knows only the module with the custom classes.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

import qframe as qf
from qframe.layers.tree import sites
from topology_models import named


def arrays(topology, model):
    """All that loading must restore: bit for bit, except predictions.

    TensorFlow sorts the terms of sums in a compiled call by names, which differ here.
    """
    found = {f"output {i}": value for i, value in enumerate(topology.call(model))}
    for i, value in enumerate(topology.predict(model)):
        # NumPy's files know no bfloat16 to compute with.
        found[f"predicted {i}"] = value.astype("float64")
    for kind, variables in (
        ("weight", model.weights),
        ("optimizer", model.optimizer.variables if model.optimizer else []),
    ):
        for i, variable in enumerate(variables):
            found[f"{kind} {i}"] = ops.convert_to_numpy(variable)
    return found


def quantized(model):
    """What is quantized in a model, by path: the slots and constraints."""
    found = {}
    for site in sites(model):
        if isinstance(site.layer, qf.layers.Quantized):
            words = {f"{s}_quantizer": repr(q) for s, q in site.layer.quantizers.items()}
            for weight in site.layer.adapter.weights:
                key = f"{weight.prefix}_constraint"
                words[key] = repr(getattr(site.layer, key, None))
                variable = getattr(site.layer, weight.attribute)
                words[f"applied {key}"] = repr(getattr(variable, "constraint", None))
            found[site.path] = words
    return found


def steps(model):
    """How many steps the optimizer has made."""
    # Keras 3.5 does not count those of an optimizer that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return int(optimizer.iterations)


def visit(topology, folder):
    model = qf.load_model(folder / f"{topology}.keras")
    np.savez(folder / f"{topology}.found.npz", **arrays(topology, model))
    found = {"quantized": quantized(model)}
    if model.optimizer and topology.trains:
        # Eagerly where that is quicker than compiling.
        model.run_eagerly = keras.backend.backend() == "tensorflow" and not topology.xla
        before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
        found["loss"] = topology.fit(model)
        found["steps"] = steps(model)
        found["moved"] = any(
            (ops.convert_to_numpy(variable) != value).any()
            for variable, value in zip(model.trainable_variables, before, strict=True)
        )
    qf.strip(model)
    found["stripped"] = quantized(model)
    return found


def main(folder, *names):
    folder = Path(folder)
    found = {}
    for name in names:
        try:
            found[name] = visit(named(name), folder)
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    (folder / "found.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
