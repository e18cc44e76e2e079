"""Listing must not wait for a backend."""

import os
import subprocess
import sys

import pytest

from qframe.cli import main

pytestmark = pytest.mark.pure

PROGRAM = """
import sys
from qframe.cli import main
main(sys.argv[1:], prog_name="qframe", standalone_mode=False)
heavy = {"numpy", "keras", "tensorflow", "jax", "torch", "qframe.cli.quickstart"}
print("imported:", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "command",
    [
        *("list", "list --json", "plugins", "show bnn", "show bnn --json"),
        *("completion bash", "--help"),
        *(f"{name} --help" for name in main.commands),
    ],
)
def test_no_backend_is_imported(command):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported: []"
