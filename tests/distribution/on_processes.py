"""Train the scenarios as one of two processes, with JAX.

Usage: python on_processes.py FOLDER RANK PORT
"""

# ruff: noqa: E402
# The engine is set up before Keras is imported.

import sys

import jax

jax.config.update("jax_cpu_collectives_implementation", "gloo")

import keras
import numpy as np

import qframe as qf
from distribution import document
from distribution.scenarios import BATCH, SCENARIOS, Notes, X, Y, arrays, trained

NAMES = "quantized", "flips"


def main(folder, rank, port):
    keras.distribution.initialize(f"127.0.0.1:{port}", 2, int(rank))
    notes = Notes(folder, f"rank {rank}")
    for name in NAMES if rank == "0" else ():
        model = SCENARIOS[name]()
        notes.arrays(f"{name}.one", trained(model))
        notes.arrays(f"{name} on.one", trained(model))
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(
            devices=keras.distribution.list_devices(), auto_shard_dataset=False
        )
    )
    # What each has drawn before must not matter: variables start the same everywhere.
    keras.utils.set_random_seed(0)
    own = np.arange(len(X)) % BATCH // (BATCH // 2) == int(rank)
    data, options = (X[own], Y[own]), {"batch_size": BATCH // 2, "verbose": 0}
    for name in NAMES:
        with notes.attempt(name):
            model = SCENARIOS[name]()
            notes.arrays(f"{name}.rank {rank}", trained(model, *data, BATCH // 2))
    with notes.attempt("goes on"):
        file = f"{folder}/flips.keras"
        checkpoint = qf.callbacks.ModelCheckpoint(file)
        model = SCENARIOS["flips"]()
        model.fit(*data, callbacks=[checkpoint], shuffle=False, **options)
        again = qf.load_model(file)
        notes.arrays(f"flips on.rank {rank}", trained(again, *data, BATCH // 2))
    with notes.attempt("evaluate"):
        notes.facts["evaluate"] = float(model.evaluate(*data, **options))
    with notes.attempt("predict"):
        model.predict(data[0], **options)
    with notes.attempt("estimates"):
        model = SCENARIOS["normalized"]()
        qf.recalibrate_batchnorm(model, data[0], **options)
        qf.calibrate(model, data[0], **options)
        notes.arrays(f"estimates.rank {rank}", arrays(model))
    with notes.attempt("document"):
        document.run("JAX", "Several machines", skip=1, rank=int(rank))
    with notes.attempt("document"):
        names = {"model": SCENARIOS["signs"](), "folder": folder, "rank": int(rank)}
        document.run("JAX", "When a machine dies", **names)
    notes.write()
    keras.distribution.set_distribution(None)
    if rank == "0":
        model = SCENARIOS["normalized"]()
        qf.recalibrate_batchnorm(model, X, batch_size=BATCH, verbose=0)
        qf.calibrate(model, X, batch_size=BATCH, verbose=0)
        notes.arrays("estimates.one", arrays(model))


if __name__ == "__main__":
    main(*sys.argv[1:])
