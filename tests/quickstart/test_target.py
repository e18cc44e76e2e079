"""The file that the quickstart writes."""

import os

import pytest

from qframe.errors import OutputError
from qframe.quickstart.target import Target


class Model:
    """Saves some text, or fails halfway."""

    def __init__(self, error=None):
        self.error = error

    def save(self, path):
        path.write_text("model")
        if self.error:
            raise self.error


def test_save(tmp_path):
    target = Target.check(str(tmp_path / "m.keras"), force=False)
    assert list(tmp_path.iterdir()) == []
    target.save(Model())
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert target.path.read_text() == "model"


def test_relative_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Target.check("m.keras", force=False).path == tmp_path / "m.keras"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_half_written(tmp_path, error):
    (tmp_path / "m.keras").write_text("before")
    target = Target.check(str(tmp_path / "m.keras"), force=True)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        target.save(Model(error))
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]
    assert target.path.read_text() == "before"


def test_existing_file(tmp_path):
    path = tmp_path / "m.keras"
    path.write_text("before")
    with pytest.raises(OutputError, match=r"m\.keras exists; .* add --force"):
        Target.check(str(path), force=False)
    Target.check(str(path), force=True).save(Model())
    assert path.read_text() == "model"


def test_link_to_a_file_keeps_being_one(tmp_path):
    path, link = tmp_path / "m.keras", tmp_path / "link.keras"
    path.write_text("before")
    link.symlink_to(path)
    Target.check(str(link), force=True).save(Model())
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
            Target.check(str(tmp_path / name), force=force)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.keras", "file"}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no POSIX permissions")
def test_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:
        pytest.skip(reason="root may write anywhere")
    with pytest.raises(OutputError, match=r"cannot be written: .*Permission denied"):
        Target.check(str(tmp_path / "m.keras"), force=False)
