"""The kit's strategies leave the process of their user as it was."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ends

PROGRAM = """
import keras
import qframe.testing.strategies as strategies
from qframe.layers.adapters import adapter_of
from qframe.registry.discovery import registry
from qframe.testing.models import KINDS, Scale

def of_the_kit():
    return sorted(n for n in keras.saving.get_custom_objects() if "testing" in n)

print(of_the_kit(), list(registry.local_layers), adapter_of(Scale))
KINDS["custom"](None)
print(of_the_kit(), adapter_of(Scale) is not None)
registry.forget_local()
KINDS["custom"](None)
print(adapter_of(Scale) is not None)
"""


def test_import_registers_no_layer_and_making_one_does():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "[] [] None",
        "['qframe_testing>Block', 'qframe_testing>Scale'] True",
        "True",
    ], done.stderr
