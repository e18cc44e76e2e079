"""Processes of PyTorch train as one does."""

import keras
import pytest

from distribution.processes import assert_same, facts, free_ports, run_together

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the processes are PyTorch's"
)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    with free_ports(1) as ports:
        run_together(folder, *(["on_torch.py", folder, rank, *ports] for rank in "01"))
    return folder


@pytest.mark.parametrize("name", ["ranges", "steps", "flips", "document"])
def test_two_processes_are_as_one(processes, name):
    for rank in "01":
        actual = facts(processes, f"rank {rank}")
        assert name not in actual, actual[name]
    if name != "document":
        assert_same(processes, name, "rank 0", "rank 1")
