"""Files that a user names: read, and written whole or not at all."""

import os
import subprocess
import sys
import threading

import pytest

from qframe.errors import ArgumentError, DataError, OutputError
from qframe.paths import OutputPath, existing_file

pytestmark = pytest.mark.pure


class Model:
    """Saves some text, or fails halfway."""

    def __init__(self, error=None):
        self.error = error

    def save(self, path):
        path.write_text("model")
        if self.error:
            raise self.error


def test_save(tmp_path):
    target = OutputPath.check(str(tmp_path / "m.keras"), ".keras", force=False)
    assert list(tmp_path.iterdir()) == []
    target.write(Model().save)
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert target.path.read_text() == "model"


def test_relative_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert OutputPath.check("m.keras", ".keras", force=False).path == tmp_path / "m.keras"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_half_written(tmp_path, error):
    (tmp_path / "m.keras").write_text("before")
    target = OutputPath.check(str(tmp_path / "m.keras"), ".keras", force=True)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        target.write(Model(error).save)
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert target.path.read_text() == "before"


def test_existing_file(tmp_path):
    path = tmp_path / "m.keras"
    path.write_text("before")
    with pytest.raises(OutputError, match=r"m\.keras exists; .* add --force"):
        OutputPath.check(str(path), ".keras", force=False)
    OutputPath.check(str(path), ".keras", force=True).write(Model().save)
    assert path.read_text() == "model"


def test_link_to_a_file_keeps_being_one(tmp_path):
    path, link = tmp_path / "m.keras", tmp_path / "link.keras"
    path.write_text("before")
    link.symlink_to(path)
    OutputPath.check(str(link), ".keras", force=True).write(Model().save)
    assert link.is_symlink()
    assert path.read_text() == "model"


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no POSIX permissions")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o777])
def test_write_over_a_file_keeps_its_mode(tmp_path, umask, mode):
    path = tmp_path / "m.keras"
    path.write_text("before")
    path.chmod(mode)
    OutputPath.check(path, ".keras", force=True).write(Model().save)
    assert path.read_text() == "model"
    assert path.stat().st_mode & 0o777 == mode


@posix
@pytest.mark.parametrize("private", [False, True])
def test_write_of_a_new_file_gives_it_the_mode_of_the_umask(tmp_path, umask, private):
    def save(path):
        path.touch()
        if private:  # as what tempfile makes
            path.chmod(0o600)

    path = tmp_path / "m.keras"
    OutputPath.check(path, ".keras", force=False).write(save)
    assert path.stat().st_mode & 0o777 == umask


@posix
def test_write_shows_a_draft_to_nobody_else(tmp_path):
    OutputPath(tmp_path / "m.keras").write(
        lambda path: path.write_text(oct(path.parent.stat().st_mode & 0o777))
    )
    assert (tmp_path / "m.keras").read_text() == "0o700"


@pytest.mark.parametrize("name", ["m" * 234 + ".keras", "é" * 100 + ".keras", ".keras"])
def test_write_of_a_name_as_long_as_a_file_system_takes(tmp_path, name):
    suffix = os.path.splitext(name)[1]
    OutputPath.check(tmp_path / name, suffix, force=False).write(Model().save)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_write_leaves_files_that_resemble_drafts(tmp_path):
    writer = f"{os.getpid()}-{threading.get_ident()}"
    kept = {f".qframe-{writer}-m.keras", ".qframe-x", "qframe-draft.lock"}
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".qframe-mine").mkdir()
    (tmp_path / ".qframe-mine" / "m.keras").write_text("mine")
    for _ in range(2):
        OutputPath.check(tmp_path / "m.keras", ".keras", force=True).write(Model().save)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "m.keras", ".qframe-mine"}
    for name in (*kept, ".qframe-mine/m.keras"):
        assert (tmp_path / name).read_text() == "mine"


KILLED = """
import os, sys
from pathlib import Path
from qframe.paths import OutputPath

def save(path):
    path.write_text("half")
    os._exit(9)

OutputPath(Path(sys.argv[1])).write(save)
"""


def test_write_removes_the_draft_of_a_process_that_was_killed(tmp_path):
    path = tmp_path / "m.keras"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == 9
    (draft,) = tmp_path.iterdir()
    other = OutputPath(tmp_path / "other.keras")
    other.write(Model().save)
    assert draft.exists()  # its writer might not have locked it yet
    os.utime(draft / "qframe-draft.lock", (0, 0))
    other.write(Model().save)
    assert [path.name for path in tmp_path.iterdir()] == ["other.keras"]


def test_write_leaves_the_draft_of_a_writer_that_is_at_work(tmp_path):
    def save(path):
        os.utime(path.with_name("qframe-draft.lock"), (0, 0))
        path.write_text("slow")
        OutputPath(tmp_path / "other.keras").write(Model().save)

    OutputPath(tmp_path / "m.keras").write(save)
    assert (tmp_path / "m.keras").read_text() == "slow"
    assert {path.name for path in tmp_path.iterdir()} == {"m.keras", "other.keras"}


@pytest.mark.parametrize("force", [False, True])
def test_paths_that_cannot_be_written(tmp_path, force):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "file").write_text("")
    for name, message in (
        ("model.h5", "does not end in .keras"),
        ("model", "write for example 'model.keras'"),
        ("folder.keras", "is a directory"),
        ("absent/m.keras", "absent does not exist; make it first"),
        ("file/m.keras", "file does not exist; make it first"),
        ("m" * 300 + ".keras", "cannot be written"),
        ("m\0.keras", "cannot be written|does not exist"),
    ):
        with pytest.raises(OutputError, match=message):
            OutputPath.check(str(tmp_path / name), ".keras", force=force)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.keras", "file"}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no POSIX permissions")
def test_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:
        pytest.skip(reason="root may write anywhere")
    with pytest.raises(OutputError, match=r"cannot be written: .*Permission denied"):
        OutputPath.check(str(tmp_path / "m.keras"), ".keras", force=False)


def test_existing_output_is_an_error_of_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.keras").write_text("")
    message = r"^m\.keras exists; name another file, or add --force\.$"
    with pytest.raises(OutputError, match=message):
        OutputPath.check("m.keras", ".keras", force=False)


def test_existing(tmp_path, monkeypatch):
    path = tmp_path / "r.toml"
    path.write_text("")
    assert existing_file(path, ".toml") == existing_file(str(path), ".toml") == path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert existing_file("~/r.toml", ".toml") == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.toml", r"^absent.toml does not exist; name a .toml file\.$"),
        ("folder.toml", "is not a file"),
        ("r.txt", "does not end in .toml"),
        ("r.txt/r.toml", "does not exist"),
        ("r" * 300 + ".toml", "cannot be read"),
        ("", "is not a file"),
        ("r\0.toml", "cannot be read|does not exist"),
    ],
)
def test_files_that_are_not_there(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "r.txt").write_text("")
    with pytest.raises(DataError, match=message):
        existing_file(name, ".toml")


@pytest.mark.parametrize("name", [None, 3, b"m.keras", ["m.keras"]])
def test_what_is_no_path_is_an_error(name):
    with pytest.raises(ArgumentError, match=r"is a str or a pathlib\.Path, found"):
        existing_file(name, ".keras")
    with pytest.raises(ArgumentError, match=r"Write for example 'model\.keras'"):
        OutputPath.check(name, ".keras", force=True)
