"""Replicas of TensorFlow train as one device does."""

import keras
import pytest

from distribution.processes import assert_same, facts, free_ports, run_together
from distribution.scenarios import SCENARIOS

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="strategies are TensorFlow's"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    run_together(folder, ["on_tensorflow.py", folder])
    return folder


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_devices_are_as_one(folder, name):
    actual = facts(folder, "tensorflow")
    assert name not in actual, actual[name]
    assert_same(folder, name, "mirrored")
    # What is saved is the first copy; the others must not say otherwise.
    assert actual[f"{name} copies"] == 0


def test_a_model_is_quantized_within_its_strategy_from_outside_too(folder):
    actual = facts(folder, "tensorflow")
    assert "outside" not in actual, actual["outside"]
    assert_same(folder, "quantized", "outside")


def test_the_program_of_the_document_runs(folder):
    assert "document" not in facts(folder, "tensorflow")


def test_a_quantizer_with_variables_of_no_replica_is_an_error(folder):
    actual = facts(folder, "tensorflow")["made outside"]
    assert actual.startswith("ArgumentError: ")
    assert "within the same strategy.scope()" in actual


def test_a_saved_model_loads_and_goes_on(folder):
    actual = facts(folder, "tensorflow")
    assert {"goes on", "reload"} & set(actual) == {"reload"}
    assert actual["reload"] <= 1e-6
    assert_same(folder, "flips on", "mirrored")


def test_plain_batch_norm_is_that_of_the_first_replica(folder):
    assert facts(folder, "tensorflow")["batch norm"] < 1e-6


@pytest.mark.parametrize("synchronized", [True, False])
def test_estimates_are_of_whole_batches_or_of_the_parts_of_them(folder, synchronized):
    actual = facts(folder, "tensorflow")
    assert "estimates" not in actual, actual["estimates"]
    assert_same(folder, f"estimates {synchronized}", "mirrored")


def test_reports_are_those_of_one_device(folder):
    actual = facts(folder, "tensorflow")
    assert "reports" not in actual, actual["reports"]
    assert_same(folder, "reports", "mirrored")


def test_the_quantizers_of_every_device_are_off_within_float_weights(folder):
    assert facts(folder, "tensorflow")["float"] <= 1e-6


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with free_ports(2) as ports:
        run_together(folder, *(["on_workers.py", folder, rank, *ports] for rank in "01"))
    return folder


@pytest.mark.parametrize("name", ["ranges", "flips", "document"])
def test_two_workers_are_as_one(workers, name):
    for rank in "01":
        actual = facts(workers, f"worker {rank}")
        assert name not in actual, actual[name]
    if name != "document":
        assert_same(workers, name, "worker 0", "worker 1")


def test_the_documents_say_what_fit_does_with_two_workers(workers):
    assert "PerReplica" in facts(workers, "worker 0")["fit"]
