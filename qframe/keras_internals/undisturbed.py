"""Code of users that runs and leaves no trace."""

from __future__ import annotations

import contextlib
import functools
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras.src.backend.common import global_state

from qframe.keras_internals.structure import all_layers

# What Keras draws seeds from makes itself at the first draw.
_GENERATOR = "global_seed_generator"


@contextlib.contextmanager
def undisturbed(layer: Any) -> Iterator[None]:
    """Put back, after the block, what the code of a layer sets or draws in it.

    These are its attributes and those of the layers in it, the lists, dicts, sets and
    random generators under them, and the random states of Python, NumPy and Keras.
    """
    restore = [_random()]
    for part in all_layers(layer):
        restore += [_attributes(part), *map(_content, vars(part).values())]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for back in restore:
            back()


def _random() -> Callable[[], None]:
    generator = global_state.get_global_attribute(_GENERATOR)
    python, numpy = random.getstate(), np.random.get_state()

    def back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        global_state.set_global_attribute(_GENERATOR, generator)

    return back


def _attributes(part: Any) -> Callable[[], None]:
    before = dict(vars(part))

    def back() -> None:
        now = vars(part)
        for name in [name for name in now if name not in before]:
            del now[name]
        now.update(before)

    return back


def _content(value: Any) -> Callable[[], None]:
    try:
        return _content_of(value)
    # Objects of users may do anything where they are asked; such a one stays as it is.
    except Exception:
        return lambda: None


def _content_of(value: Any) -> Callable[[], None]:
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return functools.partial(setattr, value.bit_generator, "state", state)
    if isinstance(value, dict) and not issubclass(type(value), dict):
        value = getattr(value, "__wrapped__", None)  # TensorFlow holds it so
    kind = next((k for k in (list, dict, set) if issubclass(type(value), k)), None)
    if kind is None:
        return lambda: None
    # And a list beside its copy.
    storage = getattr(value, "_storage", None) if kind is list else None
    held = [each for each in (value, storage) if isinstance(each, kind)]
    return functools.partial(_refill, kind, [(each, kind(each)) for each in held])


def _refill(kind: Any, pairs: list[tuple[Any, Any]]) -> None:
    # By the methods of Python: those of Keras's own containers refuse, or track.
    for value, before in pairs:
        kind.clear(value)
        (kind.extend if kind is list else kind.update)(value, before)
