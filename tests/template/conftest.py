"""Processes that have the template installed, and processes that do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SITE = Path(os.environ.get("QFRAME_TEMPLATE", "not-run-by-tox-run-e-template"))


@pytest.fixture(scope="session", autouse=True)
def site():
    """The folder that the template is installed in, and nothing else."""
    assert (SITE / "qframe_template").is_dir(), "run these with `tox run -e template`"
    return SITE


@pytest.fixture(scope="session")
def process(tmp_path_factory):
    """Run Python with some folders on its path, in an empty directory."""

    def run(*arguments, path=(SITE,), **environment):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                **environment,
            },
            cwd=tmp_path_factory.mktemp("empty"),
            capture_output=True,
            text=True,
            check=False,
        )

    return run
