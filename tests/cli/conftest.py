"""Running the command in this process or in another one, and plugins to find there."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from qframe.cli import main


@pytest.fixture
def command():
    """Run a command in this process: ``command("list", "--kind", "quantizer")``."""

    def run(*arguments):
        result = CliRunner().invoke(main, arguments, prog_name="qframe")
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def process(tmp_path):
    """Run a command in a separate process, in an empty directory."""

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "qframe", *arguments],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        if "--debug" not in arguments:
            assert "Traceback" not in done.stdout + done.stderr
        return done

    return run


MANIFEST = """
import qframe
from qframe.registry.components import constraint, quantizer

@qframe.hookimpl
def qframe_components():
    yield quantizer("ste_round", "{name}_m:Absent", summary="[b]rounds ±0.5[/b]")
    yield quantizer("clamp", "{name}_m:Absent")
    yield constraint("clamp", "{name}_m:Absent")
"""


@pytest.fixture
def third_party(install):
    """A plugin of someone else, whose classes are missing."""
    install("other", MANIFEST.format(name="other"))


@pytest.fixture
def broken(install):
    """A plugin that cannot be imported."""
    install("broken", "raise ImportError('no module\\n  named flux')")
