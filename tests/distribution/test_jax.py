"""Devices and processes of JAX train as one device does."""

import contextlib
import os
import re
import signal
import time

import keras
import numpy as np
import pytest

import qframe as qf
from distribution.processes import (
    assert_same,
    end,
    facts,
    free_ports,
    run_together,
    start,
)
from distribution.scenarios import SCENARIOS, STEPS, trained

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="Keras distributes on JAX alone"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    run_together(folder, ["on_jax.py", folder])
    return folder


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_devices_are_as_one(folder, name):
    actual = facts(folder, "jax")
    assert name not in actual, actual[name]
    assert_same(folder, name, "data")


@pytest.mark.parametrize("name", ["ranges", "quantized"])
def test_a_model_in_parts_is_as_one(folder, name):
    actual = facts(folder, "jax")
    assert f"{name} in parts" not in actual, actual[f"{name} in parts"]
    assert_same(folder, name, "model")
    assert actual[f"{name} parts"] == [[6, 4], [6, 4]]
    assert actual[f"{name} reload"] <= 1e-6


def test_the_programs_of_the_document_run(folder):
    assert "document" not in facts(folder, "jax")


def test_estimates_are_those_of_whole_batches(folder):
    actual = facts(folder, "jax")
    assert "estimates" not in actual, actual["estimates"]
    assert_same(folder, "estimates", "data")


def test_reports_are_those_of_one_device(folder):
    actual = facts(folder, "jax")
    assert "reports" not in actual, actual["reports"]
    assert_same(folder, "reports", "data")


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    with free_ports(1) as ports:
        run_together(folder, *(["on_processes.py", folder, rank, *ports] for rank in "01"))
    return folder


@pytest.mark.parametrize("name", ["quantized", "flips", "flips on", "estimates"])
def test_two_processes_are_as_one(processes, name):
    for rank in "01":
        actual = facts(processes, f"rank {rank}")
        assert name not in actual, actual[name]
    assert_same(processes, name, "rank 0", "rank 1")


def test_two_processes_evaluate_and_refuse_as_documented(processes):
    actual = [facts(processes, f"rank {rank}") for rank in "01"]
    assert actual[0]["evaluate"] == actual[1]["evaluate"] > 0
    assert not {"goes on", "document"} & {*actual[0], *actual[1]}
    # As the documents say of Keras.
    assert "non-addressable" in actual[0]["predict"]
    assert not list(processes.glob(".qframe-*"))


def test_when_a_process_is_killed_the_other_one_stops_and_training_resumes(tmp_path):
    file = tmp_path / "last.keras"
    logs = [tmp_path / f"{rank}.log" for rank in "01"]
    with free_ports(1) as (port,), contextlib.ExitStack() as ends:
        pair = [
            start(log, "until_killed.py", tmp_path, rank, port)
            for rank, log in enumerate(logs)
        ]
        for process in pair:
            ends.callback(end, process)
        deadline = time.monotonic() + 500
        while not file.exists():
            assert all(process.poll() is None for process in pair), logs[0].read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(pair[1].pid, signal.SIGKILL)
        assert pair[0].wait(500) != 0
    output = logs[0].read_text("utf-8", "replace")
    assert re.search(r"Gloo \S+ failed|another task died", output), output
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".log"] == ["last.keras"]
    model = qf.load_model(file)
    steps = int(model.optimizer.iterations)
    assert steps > 0
    assert steps % STEPS == 0
    assert np.isfinite(trained(model)[-1]).all()
    assert int(model.optimizer.iterations) == steps + STEPS
