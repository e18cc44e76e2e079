"""Train the scenarios on one device and on two, with JAX.

Usage: python on_jax.py FOLDER
"""

# The engine is set up before Keras is imported.

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import numpy as np

import qframe as qf
from distribution import document, scenarios
from distribution.scenarios import SCENARIOS, Notes, X, arrays, trained

SHARDED = "ranges", "quantized"


def main(folder):
    notes = Notes(folder, "jax")
    devices = keras.distribution.list_devices()
    data = keras.distribution.DataParallel(devices=devices)
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*/kernel"] = (None, "model")
    parts = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    for name, make in SCENARIOS.items():
        with notes.attempt(name):
            notes.arrays(f"{name}.one", trained(make()))
            with data.scope():
                model = make()
                notes.arrays(f"{name}.data", trained(model))
        if name in SHARDED:
            with notes.attempt(f"{name} in parts"), parts.scope():
                model = make()
                notes.arrays(f"{name}.model", trained(model))
                kernel = model.layers[0].kernel.value
                notes.facts[f"{name} parts"] = [
                    list(part.data.shape) for part in kernel.addressable_shards
                ]
                file = f"{folder}/{name}.keras"
                model.save(file)
                result = [m.predict(X, verbose=0) for m in (model, qf.load_model(file))]
                notes.facts[f"{name} reload"] = float(np.abs(result[0] - result[1]).max())
    with notes.attempt("estimates"):
        # After the last scenario, whose model is distributed over the data.
        file = f"{folder}/normalized.keras"
        model.save(file)
        one = keras.distribution.DataParallel(devices=devices[:1])
        for name, distribution in (("one", one), ("data", data)):
            with distribution.scope():
                again = qf.load_model(file)
                qf.recalibrate_batchnorm(again, X, batch_size=16, verbose=0)
                qf.calibrate(again, X, batch_size=16, verbose=0)
                notes.arrays(f"estimates.{name}", arrays(again))
    with notes.attempt("reports"):
        notes.arrays("reports.one", scenarios.reported(*scenarios.pair()))
        with data.scope():
            notes.arrays("reports.data", scenarios.reported(*scenarios.pair()))
    with notes.attempt("document"):
        document.run("JAX")
    notes.write()


if __name__ == "__main__":
    main(*sys.argv[1:])
