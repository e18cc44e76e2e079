"""The file that a run writes: checked before the work, and whole or not there after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs

from qframe.errors import OutputError


@attrs.frozen
class Target:
    """A path for a model, which can be written."""

    path: Path

    @classmethod
    def check(cls, name: str, *, force: bool) -> Target:
        """A target at this path; raises `OutputError` where none can be written.

        Args:
            name: the path, with the suffix ``.keras``.
            force: replace a file that is there already.
        """
        if Path(name).suffix != ".keras":
            raise OutputError(
                f"{name!r} does not end in .keras, by which Keras knows the format; "
                f"write for example {Path(name).with_suffix('.keras').name!r}."
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
        except OSError as error:
            raise OutputError(f"{name} cannot be written: {error}.") from error
        return target

    @property
    def draft(self) -> Path:
        """Where the file grows: beside its place, so that it can be moved there."""
        return self.path.with_name(f".qframe-{os.getpid()}.keras")

    def save(self, model: Any) -> None:
        """Write the model to a draft and move it to its place."""
        try:
            model.save(self.draft)
            self.draft.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error}.") from error
        finally:
            self.draft.unlink(missing_ok=True)
