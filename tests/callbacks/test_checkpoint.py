"""Checkpoints are whole, whenever training is killed."""

import multiprocessing
import random
import signal
import time

import keras
import numpy as np
import pytest

import qframe as qf
from endless_training import quantized, train_for_ever
from fitting import X, equal, fit, network, weights
from qframe.errors import OutputError

KILLS = 4


def test_files_are_those_of_keras(tmp_path):
    model = quantized()
    options = {"save_weights_only": True}
    callbacks = [
        qf.callbacks.ModelCheckpoint(tmp_path / "made" / "{epoch}.keras"),
        qf.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{loss:.0f}.weights.h5", **options),
        keras.callbacks.ModelCheckpoint(tmp_path / "plain.weights.h5", **options),
    ]
    fit(model, *callbacks, epochs=2)
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*"))
    assert [n.partition("-")[0] for n in names] == [
        "1",
        "2",
        "made/1.keras",
        "made/2.keras",
        "plain.weights.h5",
    ]
    trained = weights(model)
    again = qf.load_model(tmp_path / "made" / "2.keras")
    equal(weights(again), trained)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 8
    model.load_weights(tmp_path / "made" / ".." / names[0])
    assert any((a != b).any() for a, b in zip(weights(model), trained, strict=True))
    model.load_weights(tmp_path / names[1])
    equal(weights(model), trained)


def test_training_goes_on_from_a_checkpoint(tmp_path):
    model = quantized()
    fit(model, qf.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"), epochs=3)
    again = qf.load_model(tmp_path / "1.keras")
    fit(again, epochs=3, initial_epoch=1)
    equal(weights(again), weights(model), rtol=1e-6, atol=1e-7)


def test_a_file_that_is_there_stays_where_saving_fails(tmp_path):
    path = tmp_path / "last.keras"
    model = quantized()
    fit(model, qf.callbacks.ModelCheckpoint(path))
    before = path.read_bytes()

    class Unsaveable(keras.layers.Layer):
        def call(self, inputs):
            return inputs

        def get_config(self):
            raise RuntimeError("no config")

    other = network(keras.layers.Dense(2), Unsaveable())
    with pytest.raises(RuntimeError, match="no config"):
        fit(other, qf.callbacks.ModelCheckpoint(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "last.keras").mkdir()
    with pytest.raises((OutputError, OSError), match="directory"):
        fit(quantized(), qf.callbacks.ModelCheckpoint(tmp_path / "last.keras"))


def checkpoints(folder):
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.mark.long
def test_whenever_training_is_killed_every_checkpoint_loads(tmp_path):
    # Children of a process that has imported Keras already, and done nothing with it.
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["keras", "qframe.callbacks", "qframe.layers"])
    draw, actual = random.Random(0), 0
    for kill in range(KILLS):
        folder = tmp_path / f"{kill}"
        folder.mkdir()
        child = start.Process(target=train_for_ever, args=(folder,))
        child.start()
        # Half of them are killed at their first checkpoint, others when there are several.
        while len(checkpoints(folder)) < 1 + kill % 2:
            assert child.is_alive(), "training ended by itself"
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        paths = checkpoints(folder)
        actual += len(paths)
        for path in paths:
            model = qf.load_model(path)
            steps = int(model.optimizer.iterations)
            assert steps > 0
            model.run_eagerly = True  # tracing takes longer than four steps
            history = fit(model).history
            assert np.isfinite(history["loss"]).all()
            assert int(model.optimizer.iterations) == steps + len(X) // 16
    assert actual >= KILLS * 3 // 2
