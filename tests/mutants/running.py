"""Run tests against a copy of the packages in which one file is changed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import attrs

from mutants.areas import Area

FOUND, SURVIVED, TIMEOUT = "found", "survived", "timeout"
CANARY = "this line stops every import of a module"
# Exit statuses of pytest: all passed, or there was nothing to run.
_QUIET = {0, 5}


@attrs.frozen
class Outcome:
    """The result of a run, and the test that failed."""

    outcome: str
    by: str
    seconds: float
    passed: int
    output: str = attrs.field(repr=False)


@attrs.frozen
class Runner:
    """The packages to copy, and the folder of tests; pytest's settings are beside it."""

    packages: tuple[Path, ...]
    tests: Path

    def run(self, area: Area, changed: dict[str, str], timeout: float) -> Outcome:
        """Run tests with these files changed, and kill them with their children in the end.

        Each run has a new folder: no bytecode and no kernel in numba's cache is older
        than the change, and Python does not find the checkout in the working directory.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            for part in ("site", "work", "numba"):
                (folder / part).mkdir()
            self._copy(folder / "site", changed)
            started = time.monotonic()
            # A pipe would stay open as long as a child process that was left.
            with (folder / "output").open("w") as out:
                process = subprocess.Popen(
                    self._command(area, folder),
                    cwd=folder / "work",
                    env=_environment(folder),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            status = None
            try:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(timeout)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            seconds = round(time.monotonic() - started, 1)
            output = (folder / "output").read_text("utf-8", errors="replace")
            # Pytest writes places as seen from the working directory.
            here = os.path.relpath(self.tests.parent, folder / "work") + os.sep
        return _outcome(status, output.replace(here, ""), seconds)

    def imports(self, area: Area, path: str, timeout: float) -> bool:
        """Return whether these tests import a module: if so, they fail when it raises."""
        source = f"raise RuntimeError({CANARY!r})\n"
        return self.run(area, {path: source}, timeout).outcome == FOUND

    def _copy(self, site: Path, changed: dict[str, str]) -> None:
        for package in self.packages:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(package, site / package.name, ignore=ignored)
        for path, source in changed.items():
            target = site / path.removeprefix("plugins/")
            if not target.is_file():
                raise ValueError(f"{path} is not in the packages that were copied")
            # As bytes, so that nothing translates the ends of lines.
            target.write_bytes(source.encode())

    def _command(self, area: Area, folder: Path) -> list[str]:
        root = self.tests.parent
        return [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *("-c", str(root / "pyproject.toml"), "--rootdir", str(root)),
            *("--basetemp", str(folder / "tmp")),
            *("-m", area.marks, "-k", area.keyword),
            *(str(self.tests / path) for path in area.paths),
        ]


def _environment(folder: Path) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    return environment | {
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONPATH": str(folder / "site"),
    }


def _outcome(status: int | None, output: str, seconds: float) -> Outcome:
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", output, re.MULTILINE)
    passed = re.search(r"\b(\d+) passed", output)
    last = output.strip().splitlines()[-1:]
    if status is None:
        outcome, by = TIMEOUT, ""
    elif status in _QUIET:
        outcome, by = SURVIVED, ""
    elif status == -signal.SIGKILL:
        # By the system, as for lack of memory. A fault may crash the process in other ways.
        raise RuntimeError(f"the tests were killed: {output[-2000:]}")
    else:
        outcome, by = FOUND, failed[1] if failed else f"status {status}: {''.join(last)}"
    return Outcome(outcome, by, seconds, int(passed[1]) if passed else 0, output)
