"""plugins/README.md, followed by somebody who does as it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_commands_make_a_plugin(tmp_path, process):
    readme = (ROOT / "plugins" / "README.md").read_text("utf-8")
    _, commands, _ = re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
    clone, site = tmp_path / "clone", tmp_path / "site"
    # Into a folder, and not into this environment.
    install = "pip install .\n"
    assert install in commands
    commands = commands.replace(install, f"pip install -q --no-deps --target '{site}' .\n")
    clone.mkdir()
    (clone / "plugins").symlink_to(ROOT / "plugins")
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=clone,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(site),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "acme:stepped_tanh" in done.stdout
    assert "template" not in done.stdout

    plugin = tmp_path / "my-plugin"
    left = [
        f"{path.relative_to(plugin)}: {line}"
        for path in plugin.rglob("*")
        if path.suffix in (".py", ".toml")
        for line in path.read_text("utf-8").splitlines()
        if "template" in line and not line.startswith("#")
    ]
    assert not left
    # Its test names what is installed, or collecting it would fail.
    arguments = ("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", plugin)
    collected = process(*arguments, path=[site])
    assert collected.returncode == 0, collected.stdout
    assert "acme:unit_max-" in collected.stdout
