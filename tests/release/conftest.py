"""The distributions to publish: built once, and installed in an empty environment."""

import os
import shutil
import subprocess
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sysconfig.get_path("scripts")) / "uv"


def run(*command, folder, **environment):
    """The output of a command, in a folder and without the settings of this process."""
    # Git passes its repository to the programs that it starts.
    ours = ("PYTHON", "GIT_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Wheel:
    """A wheel: its path, its files, and what it says of itself."""

    path: Path

    def read(self, name):
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    @property
    def files(self):
        with zipfile.ZipFile(self.path) as archive:
            return set(archive.namelist())

    @property
    def info(self):
        """The folder with the metadata."""
        (folder,) = {f.partition("/")[0] for f in self.files if ".dist-info/" in f}
        return folder

    @property
    def metadata(self):
        return message_from_bytes(self.read(f"{self.info}/METADATA"))

    @property
    def record(self):
        """The digest of each file."""
        lines = self.read(f"{self.info}/RECORD").decode().splitlines()
        return dict(line.split(",")[:2] for line in lines)


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """The source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    run(UV, "build", "-q", "--sdist", "--out-dir", folder, ROOT, folder=folder)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def source(sdist, tmp_path_factory):
    """The folder that the source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


@dataclass(frozen=True)
class Clone:
    """A clone, with the environment that the first command of README.md makes in it."""

    folder: Path

    def bash(self, text):
        """Run a command as a shell does in which that environment is activated."""
        programs = self.folder / ".venv" / "bin"
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        return run("bash", "-euc", text, folder=self.folder, PATH=path)

    def git(self, *arguments):
        """Run git without what the user has it ignore everywhere."""
        settings = ("-c", f"core.excludesFile={os.devnull}", "-c", "core.quotePath=false")
        return run("git", *settings, *arguments, folder=self.folder)

    def status(self, *arguments):
        """The lines of `git status`."""
        return set(self.git("status", "--porcelain", *arguments).splitlines())


@pytest.fixture(scope="session")
def clone(source, tmp_path_factory):
    """A clone of what this checkout would be with all its changes committed.

    It is made of the source distribution, which holds everything but `.ci`.
    """
    folder = tmp_path_factory.mktemp("clone") / "qframe"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("PKG-INFO"))
    made = Clone(folder)
    made.git("init", "-q", "--template=")
    made.git("add", ".")
    author = ("-c", "user.name=A test", "-c", "user.email=", "-c", "commit.gpgSign=false")
    made.git(*author, "commit", "-q", "-m", "All files")
    return made


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Build a wheel from a folder of source."""

    def make(source):
        folder = tmp_path_factory.mktemp("wheel")
        run(UV, "build", "-q", "--wheel", "--out-dir", folder, source, folder=folder)
        (path,) = folder.glob("*.whl")
        return Wheel(path)

    return make


@pytest.fixture(scope="session")
def wheel(build, source):
    """The wheel, made from the source distribution."""
    return build(source)


@pytest.fixture(scope="session")
def program(wheel, tmp_path_factory):
    """Run a program of an environment that has the wheel, TensorFlow, and no more."""
    folder = tmp_path_factory.mktemp("clean")
    environment, empty = folder / "environment", folder / "empty"
    empty.mkdir()
    run(UV, "venv", "-q", environment, folder=empty)
    python = environment / "bin" / "python"
    wanted = f"keras-qframe[tensorflow] @ {wheel.path.as_uri()}"
    run(UV, "pip", "install", "-q", "--python", python, wanted, folder=empty)
    return lambda name, *arguments: run(
        environment / "bin" / name, *arguments, folder=empty
    )
