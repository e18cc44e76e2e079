"""Files that a user names: read, and written whole or not at all."""

import os

import pytest

from qframe.errors import DataError, OutputError
from qframe.files import Target, existing

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
    target = Target.check(str(tmp_path / "m.keras"), ".keras", force=False)
    assert list(tmp_path.iterdir()) == []
    target.write(Model().save)
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert target.path.read_text() == "model"


def test_relative_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Target.check("m.keras", ".keras", force=False).path == tmp_path / "m.keras"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_half_written(tmp_path, error):
    (tmp_path / "m.keras").write_text("before")
    target = Target.check(str(tmp_path / "m.keras"), ".keras", force=True)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        target.write(Model(error).save)
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert target.path.read_text() == "before"


def test_existing_file(tmp_path):
    path = tmp_path / "m.keras"
    path.write_text("before")
    with pytest.raises(OutputError, match=r"m\.keras exists; .* add --force"):
        Target.check(str(path), ".keras", force=False)
    Target.check(str(path), ".keras", force=True).write(Model().save)
    assert path.read_text() == "model"


def test_link_to_a_file_keeps_being_one(tmp_path):
    path, link = tmp_path / "m.keras", tmp_path / "link.keras"
    path.write_text("before")
    link.symlink_to(path)
    Target.check(str(link), ".keras", force=True).write(Model().save)
    assert link.is_symlink()
    assert path.read_text() == "model"


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
    ):
        with pytest.raises(OutputError, match=message):
            Target.check(str(tmp_path / name), ".keras", force=force)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.keras", "file"}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no POSIX permissions")
def test_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:
        pytest.skip(reason="root may write anywhere")
    with pytest.raises(OutputError, match=r"cannot be written: .*Permission denied"):
        Target.check(str(tmp_path / "m.keras"), ".keras", force=False)


def test_existing(tmp_path, monkeypatch):
    path = tmp_path / "r.toml"
    path.write_text("")
    assert existing(path, ".toml") == existing(str(path), ".toml") == path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert existing("~/r.toml", ".toml") == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.toml", "does not exist; name a .toml file"),
        ("folder.toml", "is not a file"),
        ("r.txt", "does not end in .toml"),
        ("r.txt/r.toml", "does not exist"),
        ("r" * 300 + ".toml", "cannot be read"),
        ("", "is not a file"),
    ],
)
def test_files_that_are_not_there(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "r.txt").write_text("")
    with pytest.raises(DataError, match=message):
        existing(name, ".toml")
