"""Files that a user names: checked before the work, and whole or not there after it."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from qframe.errors import DataError, OutputError

Name = str | os.PathLike[str]


def existing(name: Name, suffix: str) -> Path:
    """The path of a file that is there; raises `DataError` where it is not.

    Args:
        name: the path.
        suffix: what it must end in, such as ``.keras``.
    """
    try:
        path = Path(name).expanduser()
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise DataError(f"{name} {what}; name a {suffix} file.")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{name} cannot be read: {error}.") from error
    if path.suffix != suffix:
        raise DataError(f"{name} does not end in {suffix}; name a {suffix} file.")
    return path


def arrays_of(path: Path) -> dict[str, Any]:
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
class Target:
    """A path that can be written."""

    path: Path

    @classmethod
    def check(cls, name: Name, suffix: str, *, force: bool) -> Target:
        """A target at this path; raises `OutputError` where none can be written.

        Args:
            name: the path.
            suffix: what it must end in, such as ``.keras``.
            force: replace a file that is there already.
        """
        if Path(name).suffix != suffix:
            example = f"{Path(name).stem or 'file'}{suffix}"
            raise OutputError(
                f"{os.fspath(name)!r} does not end in {suffix}, which says what the file "
                f"holds; write for example {example!r}."
            )
        try:
            target = cls(Path(name).expanduser().resolve())
            if target.path.is_dir():
                raise OutputError(f"{name} is a directory; name a file.")
            if target.path.exists() and not force:
                raise OutputError(f"{name} exists; name another file, or add --force.")
            if not target.path.parent.is_dir():
                raise OutputError(
                    f"the directory {target.path.parent} does not exist; make it first."
                )
            # The only sure way to know is to write.
            target.draft.touch()
            target.draft.unlink()
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{name} cannot be written: {error}.") from error
        return target

    @property
    def draft(self) -> Path:
        """Where the file grows: beside its place, so that it can be moved there."""
        writer = f"{os.getpid()}-{threading.get_ident()}"
        return self.path.with_name(f".qframe-{writer}-{self.path.name}")

    def write(self, write: Callable[[Path], Any]) -> None:
        """Have `write` make the draft, and move it to its place."""
        try:
            write(self.draft)
            self.draft.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error}.") from error
        finally:
            self.draft.unlink(missing_ok=True)
