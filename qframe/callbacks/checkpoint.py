"""Checkpoints that a training which is killed leaves whole."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import keras

from qframe.paths import OutputPath


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras's callback of this name, which never leaves half a file.

    A file grows in a folder beside its place, whose name begins with ``.qframe-``, and is
    moved there when it is whole. So whenever training is killed, even while it saves, each
    checkpoint that is found loads: this one, or the one before it. A ``.keras`` file holds
    the optimizer and the state of the quantizers too, and training goes on from it. Of
    several JAX processes that train one model, which all have this callback, the first one
    writes for all:

    ``model = qframe.load_model(path)``; ``model.fit(..., initial_epoch=epochs_done)``.

    Args:
        *args: those of `keras.callbacks.ModelCheckpoint`.
        **kwargs: the same. A path with ``://`` is written by Keras alone.

    Raises:
        OutputError: when it saves, a file cannot be written.

    Example:
        >>> import pathlib, tempfile, keras, numpy as np, qframe as qf
        >>> model = keras.Sequential([keras.Input((2,)), qf.layers.QuantDense(1)])
        >>> model.compile("adam", "mse")
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> checkpoint = qf.callbacks.ModelCheckpoint(folder / "{epoch}.keras")
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> history = model.fit(x, y, epochs=2, callbacks=[checkpoint], verbose=0)
        >>> sorted(path.name for path in folder.iterdir())
        ['1.keras', '2.keras']
    """

    @property
    def model(self) -> Any:
        """The model, which writes whole files."""
        model = super().model
        return None if model is None else _Whole(model)


@attrs.frozen
class _Whole:
    """A model but for how it is saved."""

    held: Any

    def save(self, filepath: Any, **kwargs: Any) -> None:
        self._write(self.held.save, filepath, kwargs)

    def save_weights(self, filepath: Any, **kwargs: Any) -> None:
        self._write(self.held.save_weights, filepath, kwargs)

    def _write(
        self, save: Callable[..., Any], filepath: Any, options: dict[str, Any]
    ) -> None:
        with _in_turn() as first:
            if not first:
                # Processes save together: Keras distributes variables while it does.
                with tempfile.TemporaryDirectory() as folder:
                    save(Path(folder) / Path(filepath).name, **options)
            elif "://" in str(filepath):
                save(filepath, **options)
            else:
                OutputPath(Path(filepath)).write(lambda draft: save(draft, **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.held, name)


@contextlib.contextmanager
def _in_turn() -> Iterator[bool]:
    """Whether this process is the first of those that train together; all end at once."""
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        yield True
        return
    import jax
    from jax.experimental import multihost_utils

    yield jax.process_index() == 0
    if jax.process_count() > 1:
        # None looks for the file before it is there.
        multihost_utils.sync_global_devices("qframe checkpoint")
