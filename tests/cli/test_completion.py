"""`qframe completion`, and what it completes."""

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from qframe.cli import main

pytestmark = pytest.mark.pure


def completed(*arguments):
    """The completions of the last argument."""
    *before, last = arguments
    result = ShellComplete(main, {}, "qframe", "_QFRAME_COMPLETE")
    return [item.value for item in result.get_completions(before, last)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(command, shell):
    result = command("completion", shell)
    assert result.exit_code == 0
    assert f"_QFRAME_COMPLETE={shell}_complete" in result.output


def test_unknown_shell(command):
    result = command("completion", "tcsh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output


def test_commands_options_and_names_are_completed():
    assert completed("qu") == ["quickstart", "quantize"]
    assert completed("list", "--kind", "re") == ["recipe"]
    assert completed("show", "ste_s") == ["ste_sign"]
    assert completed("show", "binary:ste_s") == ["binary:ste_sign"]
    assert completed("plan", "m.keras", "-r", "bn") == ["bnn"]


def test_in_bash(tmp_path):
    """The real shell, with a `qframe` that it finds on its path."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip(reason="no bash on this machine")
    program = tmp_path / "qframe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qframe "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(qframe completion bash)"; COMP_CWORD=1; '
        'COMP_WORDS=(qframe sum); _qframe_completion qframe; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "-c", script],
        env={**os.environ, "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["summary"], done.stderr
