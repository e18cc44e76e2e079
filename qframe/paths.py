"""Checked paths, and files that are written as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from qframe.errors import ArgumentError, DataError, OutputError, QFrameError

AnyPath = str | os.PathLike[str]


def existing_file(name: AnyPath, *suffixes: str) -> Path:
    """The path of an existing file; raises `DataError` for any other path.

    Args:
        name: the path.
        *suffixes: it must end in one of them, such as ``.keras``.
    """
    suffix, path = " or ".join(suffixes), _path_of(name)
    try:
        path = path.expanduser()
        if not path.is_file():
            state = "is not a file" if path.exists() else "does not exist"
            raise DataError(f"{name} {state}; name a {suffix} file.")
    except QFrameError:  # a ValueError, too
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{name} cannot be read: {error}.") from error
    if path.suffix not in suffixes:
        raise DataError(f"{name} does not end in {suffix}; name a {suffix} file.")
    return path


def _path_of(name: Any) -> Path:
    """A path; raises `ArgumentError` for what is none."""
    try:
        return Path(name)
    except TypeError as error:
        raise ArgumentError(
            f"a path is a str or a pathlib.Path, found {name!r}. Write for example "
            "'model.keras'."
        ) from error


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays in an .npz file; raises `DataError` for any other file."""
    with _loaded(path) as file:
        if not hasattr(file, "files"):
            raise ValueError("it holds one array, not an archive of arrays")
        with file:
            return {name: file[name] for name in file.files}


def read_array(path: Path) -> Any:
    """The array in an .npy file; raises `DataError` for any other file."""
    with _loaded(path) as array:
        if hasattr(array, "files"):
            raise ValueError("it holds an archive of arrays, not one array")
        return array


@contextlib.contextmanager
def _loaded(path: Path) -> Iterator[Any]:
    """What NumPy loads, with errors that name the file."""
    # Imported here, so that commands without data do not wait for them.
    import zipfile
    import zlib

    import numpy as np

    try:
        yield np.load(path, allow_pickle=False)
    # NumPy raises these for a file that is damaged, foreign, pickled or unreadable.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


@attrs.frozen
class OutputPath:
    """A path that can be written."""

    path: Path

    @classmethod
    def check(cls, name: AnyPath, suffix: str, *, force: bool) -> OutputPath:
        """Check a path; raises `OutputError` if it cannot be written.

        Args:
            name: the path.
            suffix: its suffix, such as ``.keras``.
            force: overwrite an existing file.
        """
        path = _path_of(name)
        if path.suffix != suffix:
            example = f"{path.stem or 'file'}{suffix}"
            raise OutputError(
                f"{os.fspath(name)!r} does not end in {suffix}, which says what the file "
                f"holds; write for example {example!r}."
            )
        try:
            output = cls(path.expanduser().resolve())
            if output.path.is_dir():
                raise OutputError(f"{name} is a directory; name a file.")
            if output.path.exists() and not force:
                raise OutputError(f"{name} exists; name another file, or add --force.")
            if not output.path.parent.is_dir():
                raise OutputError(
                    f"the directory {output.path.parent} does not exist; make it first."
                )
            # Only writing shows that it is possible.
            with _draft(output.path) as draft:
                draft.touch()
        except QFrameError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            raise OutputError(f"{name} cannot be written: {error}.") from error
        return output

    def write(self, write: Callable[[Path], Any]) -> None:
        """Let `write` create a draft, and move it to the path.

        The new file takes the mode of a file that it replaces. Drafts of killed processes
        in the folder are removed.
        """
        try:
            path = self.path.resolve()
            _remove_abandoned(path.parent)
            with _draft(path) as draft:
                write(draft)
                before = path if path.exists() else draft.with_name(_MARK)
                mode = stat.S_IMODE(before.stat().st_mode)
                if stat.S_IMODE(draft.stat().st_mode) != mode:
                    draft.chmod(mode)
                draft.replace(path)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error}.") from error


# The prefix of the folder of a draft, and the name of a file in it that marks the folder
# as qframe's and has the mode of a new file.
_FOLDER = ".qframe-"
_MARK = "qframe-draft.lock"
# The age at which a mark without a lock is abandoned: a writer has locked it by then.
_SECONDS = 60


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """The path of a draft, in a new folder beside the path of the result.

    It has the name of the result, and can be moved there.
    """
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=path.parent))
    try:
        with (folder / _MARK).open("xb") as mark:
            _lock(mark)
            yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the drafts of ended processes, as far as possible."""
    with contextlib.suppress(OSError):
        for mark in parent.glob(f"{_FOLDER}*/{_MARK}"):
            if mark.stat().st_mtime < time.time() - _SECONDS and _is_free(mark):
                # Windows does not remove a file that a process has open.
                mark.unlink()
                shutil.rmtree(mark.parent, ignore_errors=True)


def _is_free(path: Path) -> bool:
    with path.open("rb") as mark:
        return _lock(mark)


def _lock(file: Any) -> bool:
    """Lock a file until this process ends; False if another process has locked it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
