"""Calls of user code without side effects."""

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

# Keras creates this source of seeds at the first draw.
_GENERATOR = "global_seed_generator"


@contextlib.contextmanager
def side_effects_undone(layer: Any) -> Iterator[None]:
    """Undo the side effects of the code of a layer after the block.

    This restores its attributes and those of the layers in it, the lists, dicts, sets and
    random generators among them, and the random states of Python, NumPy and Keras.
    """
    undo = [_undo_random()]
    for part in all_layers(layer):
        undo += [_undo_attributes(part), *map(_undo_content, vars(part).values())]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for restore in undo:
            restore()


def _undo_random() -> Callable[[], None]:
    generator = global_state.get_global_attribute(_GENERATOR)
    python, numpy = random.getstate(), np.random.get_state()

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        global_state.set_global_attribute(_GENERATOR, generator)

    return restore


def _undo_attributes(part: Any) -> Callable[[], None]:
    before = dict(vars(part))

    def restore() -> None:
        attributes = vars(part)
        for name in attributes.keys() - before.keys():
            del attributes[name]
        attributes.update(before)

    return restore


def _undo_content(value: Any) -> Callable[[], None]:
    try:
        return _undo_content_of(value)
    # Objects of users can raise anything on inspection; these are not restored.
    except Exception:
        return lambda: None


def _undo_content_of(value: Any) -> Callable[[], None]:
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return functools.partial(setattr, value.bit_generator, "state", state)
    if isinstance(value, dict) and not issubclass(type(value), dict):
        value = getattr(value, "__wrapped__", None)  # a wrapper of TensorFlow
    kind = next((k for k in (list, dict, set) if issubclass(type(value), k)), None)
    if kind is None:
        return lambda: None
    # Such a wrapper of a list has a copy of it.
    storage = getattr(value, "_storage", None) if kind is list else None
    pairs = [(part, kind(part)) for part in (value, storage) if isinstance(part, kind)]
    return functools.partial(_refill, kind, pairs)


def _refill(kind: Any, pairs: list[tuple[Any, Any]]) -> None:
    # By the methods of Python, since the containers of Keras refuse or track parts.
    for value, before in pairs:
        kind.clear(value)
        (kind.extend if kind is list else kind.update)(value, before)
