"""Processes that train together, each with its children ended in time."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


# Below those that systems give to whoever asks for any port.
PORTS = range(20_000, 30_000)


@contextlib.contextmanager
def free_ports(count):
    """Ports of the loopback address that nothing listens on, for as long as it lasts.

    Who holds the same port of UDP may use it, so that no two runs of these tests take one.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for port in PORTS:
            if len(ports) == count:
                break
            claim = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            try:
                claim.bind(("127.0.0.1", port))
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(str(port))
        assert len(ports) == count, f"{PORTS} has no {count} free ports"
        yield ports


def start(log, script, *arguments):
    """Run a script of this folder in a separate process and process group."""
    folders = map(str, (HERE.parent, HERE.parent / "helpers"))
    path = os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, arguments)],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        )


def end(process):
    """Kill a process and its children, if any is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_together(folder, *commands, timeout=500):
    """Run scripts at once; fails where one does not come to a good end in time."""
    logs = [folder / f"{index}.log" for index in range(len(commands))]
    started = [start(log, *command) for log, command in zip(logs, commands, strict=True)]
    try:
        deadline = time.monotonic() + timeout
        for process, log in zip(started, logs, strict=True):
            code = process.wait(max(deadline - time.monotonic(), 0.1))
            assert code == 0, log.read_text("utf-8", "replace")[-6000:]
    finally:
        for process in started:
            end(process)


def facts(folder, who):
    """The results of a process."""
    return json.loads((folder / f"{who}.json").read_text("utf-8"))


def assert_same(folder, name, *kinds):
    """Compare what each kind of training came to with that on one device."""
    files = [np.load(folder / f"{name}.{kind}.npz") for kind in ("one", *kinds)]
    for file in files[1:]:
        assert file.files == files[0].files
        for key in file.files:
            np.testing.assert_allclose(file[key], files[0][key], rtol=1e-5, atol=1e-5)
