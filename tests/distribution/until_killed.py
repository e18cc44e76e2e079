"""Train as one of two JAX processes that save after each epoch, until one is killed.

Usage: python until_killed.py FOLDER RANK PORT
"""

# ruff: noqa: E402
# The engine is set up before Keras is imported.

import sys

import jax

# A process that is killed would leave half a file in the folder that all runs share.
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
folder, rank, port = sys.argv[1:]
# As `keras.distribution.initialize`, which has no word for how long a silence is.
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(rank), heartbeat_timeout_seconds=10)

import keras
import numpy as np

import qframe as qf
from distribution.scenarios import BATCH, SCENARIOS, X, Y

keras.utils.set_random_seed(0)
keras.distribution.set_distribution(
    keras.distribution.DataParallel(
        devices=keras.distribution.list_devices(), auto_shard_dataset=False
    )
)
own = np.arange(len(X)) % BATCH // (BATCH // 2) == int(rank)
checkpoint = qf.callbacks.ModelCheckpoint(f"{folder}/last.keras")
SCENARIOS["signs"]().fit(
    X[own],
    Y[own],
    batch_size=BATCH // 2,
    epochs=100_000,
    callbacks=[checkpoint],
    verbose=0,
)
