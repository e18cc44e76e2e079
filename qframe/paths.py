"""Paths that a user names: checked before the work, written as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from qframe.errors import DataError, OutputError

AnyPath = str | os.PathLike[str]


def existing_file(name: AnyPath, *suffixes: str) -> Path:
    """The path of a file that exists; raises `DataError` where it does not.

    Args:
        name: the path.
        *suffixes: it must end in one of them, such as ``.keras``.
    """
    suffix = " or ".join(suffixes)
    try:
        path = Path(name).expanduser()
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise DataError(f"{name} {what}; name a {suffix} file.")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} cannot be read: {error}.") from error
    if path.suffix not in suffixes:
        raise DataError(f"{name} does not end in {suffix}; name a {suffix} file.")
    return path


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays in an .npz file; raises `DataError` where it holds something else."""
    import numpy as np

    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array, not an archive of arrays")
        with file:
            return {name: file[name] for name in file.files}
    # What a file that is damaged, foreign, pickled or unreadable makes numpy raise.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


@attrs.frozen
class OutputPath:
    """A path that can be written."""

    path: Path

    @classmethod
    def check(cls, name: AnyPath, suffix: str, *, force: bool) -> OutputPath:
        """Check a path; raises `OutputError` where no file can be written.

        Args:
            name: the path.
            suffix: what it must end in, such as ``.keras``.
            force: replace a file that exists.
        """
        if Path(name).suffix != suffix:
            example = f"{Path(name).stem or 'file'}{suffix}"
            raise OutputError(
                f"{os.fspath(name)!r} does not end in {suffix}, which says what the file "
                f"holds; write for example {example!r}."
            )
        try:
            output = cls(Path(name).expanduser().resolve())
            if output.path.is_dir():
                raise OutputError(f"{name} is a directory; name a file.")
            if output.path.exists() and not force:
                raise OutputError(f"{name} exists; name another file, or add --force.")
            if not output.path.parent.is_dir():
                raise OutputError(
                    f"the directory {output.path.parent} does not exist; make it first."
                )
            # The only sure way to know is to write.
            with _draft(output.path) as draft:
                draft.touch()
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{name} cannot be written: {error}.") from error
        return output

    def write(self, write: Callable[[Path], Any]) -> None:
        """Have `write` make a draft, and move it to its place.

        A file that is replaced leaves its mode to the new one. What processes that were
        killed have left in the folder is removed.
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


# Of the folder where a file grows, and of what says that the folder is one of ours. The
# latter has the mode of a new file.
_FOLDER = ".qframe-"
_MARK = "qframe-draft.lock"
# Before that, a writer may not have locked it.
_SECONDS = 60


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Where a file grows: beside its place, so that it can be moved there.

    In a new folder its name is that of no other file, and as long as it is going to be.
    """
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=path.parent))
    try:
        with (folder / _MARK).open("xb") as mark:
            _lock(mark)
            yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the drafts of processes that are gone; whatever fails is left alone."""
    with contextlib.suppress(OSError):
        for mark in parent.glob(f"{_FOLDER}*/{_MARK}"):
            if mark.stat().st_mtime < time.time() - _SECONDS and _is_free(mark):
                # Windows removes no file that a process has open.
                mark.unlink()
                shutil.rmtree(mark.parent, ignore_errors=True)


def _is_free(path: Path) -> bool:
    with path.open("rb") as mark:
        return _lock(mark)


def _lock(file: Any) -> bool:
    """Whether the file is locked now, by this process; the end of a process unlocks it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
