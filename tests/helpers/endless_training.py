"""Endless training, for a separate process."""

import keras

import qframe as qf
from fitting import fit, network


def quantized():
    parts = [qf.layers.QuantDense(5, kernel_quantizer="lsq"), keras.layers.Dense(2)]
    return network(*parts, optimizer=keras.optimizers.Adam(0.01))


def train_for_ever(folder):
    """Save after each step, to one file and to many."""
    checkpoints = [
        qf.callbacks.ModelCheckpoint(folder / "last.keras", save_freq=1),
        qf.callbacks.ModelCheckpoint(folder / "{epoch:04d}.keras", save_freq=3),
    ]
    fit(quantized(), *checkpoints, epochs=10_000)
