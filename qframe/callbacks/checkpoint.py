"""Checkpoints that stay complete if training is killed."""

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
    """Keras's callback of this name, which never leaves an incomplete file.

    It writes a file to a folder next to the target, whose name begins with ``.qframe-``,
    and moves the complete file. So if training is killed, even during a save, every
    existing checkpoint loads: the new one, or the one before it. A ``.keras`` file contains
    the optimizer and the state of the quantizers too. If several JAX processes train one
    model, all need this callback, and the first process writes. To continue training:

    ``model = qframe.load_model(path)``; ``model.fit(..., initial_epoch=epochs_done)``.

    Args:
        *args: the arguments of `keras.callbacks.ModelCheckpoint`.
        **kwargs: the same. A path with ``://`` is written by Keras alone.

    Raises:
        OutputError: in training, a file cannot be written.

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
        """The model, wrapped to write complete files."""
        model = super().model
        return None if model is None else _AtomicWriter(model)


@attrs.frozen
class _AtomicWriter:
    """A model whose files appear when they are complete."""

    wrapped: Any

    def save(self, filepath: Any, **kwargs: Any) -> None:
        self._write(self.wrapped.save, filepath, kwargs)

    def save_weights(self, filepath: Any, **kwargs: Any) -> None:
        self._write(self.wrapped.save_weights, filepath, kwargs)

    def _write(
        self, save: Callable[..., Any], filepath: Any, options: dict[str, Any]
    ) -> None:
        with _in_turn() as first:
            if not first:
                # All processes must save, since Keras gathers distributed variables in it.
                with tempfile.TemporaryDirectory() as folder:
                    save(Path(folder) / Path(filepath).name, **options)
            elif "://" in str(filepath):
                save(filepath, **options)
            else:
                OutputPath(Path(filepath)).write(lambda draft: save(draft, **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


@contextlib.contextmanager
def _in_turn() -> Iterator[bool]:
    """True in the first of the processes that train together; all wait at the end."""
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        yield True
        return
    import jax
    from jax.experimental import multihost_utils

    yield jax.process_index() == 0
    if jax.process_count() > 1:
        # No process may look for the file before it exists.
        multihost_utils.sync_global_devices("qframe checkpoint")
