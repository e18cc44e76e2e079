"""Layers that multiply channels by their weights last, as normalizations do.

They are normalizations of Keras, or layers of users for which this is tried with numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe import keras_internals
from qframe.errors import QFrameError
from qframe.keras_internals.side_effects import side_effects_undone
from qframe.layers.substitution import latent
from qframe.layers.table import nearest
from qframe.passes.calls import Calls
from qframe.passes.equalization.channel_groups import Part
from qframe.passes.equalization.followed_code import known_shape
from qframe.passes.equalization.places import Place
from qframe.passes.weights import Array, values_of

# The scale and the shift of each class of normalization. Older versions of Keras lack some.
NORMS: Mapping[type, tuple[str, ...]] = {
    getattr(keras.layers, name): attributes
    for name, attributes in {
        "BatchNormalization": ("gamma", "beta"),
        "GroupNormalization": ("gamma", "beta"),
        "LayerNormalization": ("gamma", "beta"),
        "RMSNormalization": ("scale",),
    }.items()
    if hasattr(keras.layers, name)
}

_OF_LAST_AXIS = tuple(
    getattr(keras.layers, name)
    for name in ("LayerNormalization", "RMSNormalization")
    if hasattr(keras.layers, name)
)
# A layer multiplies with its weight w, or with 1 + w.
_OFFSETS = (0.0, 1.0)
_MOST_WEIGHTS = 2


class Norms:
    """The layers of a model that may make channels without a product.

    Args:
        calls: the calls of the layers.
        allowed: whether any may.
    """

    def __init__(self, calls: Calls, allowed: bool) -> None:
        self._calls, self._allowed = calls, allowed
        # By the id of a layer of users, what its weights lack to be its factors.
        self._offsets: dict[int, tuple[float, ...] | None] = {}

    def has(self, layer: Any) -> bool:
        """Return whether a layer may make channels."""
        if not self._allowed:
            return False
        return isinstance(layer, tuple(NORMS)) or self.is_of_user(layer)

    def is_of_user(self, layer: Any) -> bool:
        """Return whether a layer of users multiplies its output by its weights last."""
        if id(layer) not in self._offsets:
            self._offsets[id(layer)] = _offsets_of(layer, self._calls.of(layer))
        return self._offsets[id(layer)] is not None

    def made_by(self, layer: Any, rank: int) -> tuple[Place, list[Part]]:
        """The channels in the output of a layer, of a rank, and the weights that make them.

        Raises:
            QFrameError: it has no weights for a scale.
        """
        if isinstance(layer, tuple(NORMS)):
            return _made_by_norm(layer, rank)
        channels = np.arange(int(layer.weights[0].shape[0]))
        pairs = zip(layer.weights, self._offsets[id(layer)] or (), strict=True)
        parts = [Part(layer, weight, channels, offset) for weight, offset in pairs]
        return Place((rank - 1,), channels), parts


def _made_by_norm(norm: Any, rank: int) -> tuple[Place, list[Part]]:
    attributes = nearest(NORMS, type(norm)) or ()
    weights = [latent(norm, name) for name in attributes]
    axes = tuple(axis % rank for axis in np.atleast_1d(norm.axis).tolist())
    if not weights or weights[0] is None:
        raise QFrameError(f"{norm.name!r} has scale=False, and nothing to divide")
    if len(axes) != 1 or (axes != (rank - 1,) and isinstance(norm, _OF_LAST_AXIS)):
        # Of another axis, what Keras computes depends on the backend.
        raise QFrameError(f"{norm.name!r} normalizes more or others than the last axis")
    channels = np.arange(int(weights[0].shape[0]))
    parts = [Part(norm, weight, channels) for weight in weights if weight is not None]
    return Place(axes, channels), parts


def _offsets_of(layer: Any, nodes: Sequence[Any]) -> tuple[float, ...] | None:
    """What the weights of a layer of users lack to be factors of its output.

    Its weights w must be vectors with a number for each channel of its last axis, without
    other state. With offsets o and any positive scale s, weights (w + o) / s - o must give
    its output divided by s, for any inputs and weights.
    """
    weights = layer.weights if isinstance(layer, keras.layers.Layer) else []
    simple = (
        0 < len(weights) <= _MOST_WEIGHTS
        and len(layer.variables)
        == len(weights)
        == len(keras_internals.own_variables(layer))
        and not keras_internals.runs_keras(layer)
        and not keras_internals.sublayers(layer)
    )
    shapes = {tuple(weight.shape) for weight in weights}
    if not simple or not nodes or len(shapes) != 1 or len(next(iter(shapes))) != 1:
        return None
    ((size,),) = shapes
    for node in nodes:
        arguments, outputs = node.arguments, node.outputs
        tensors = arguments.keras_tensors
        options = {k: v for k, v in arguments.kwargs.items() if k != "training"}
        if list(map(id, arguments.args)) != list(map(id, tensors)) or any(
            value is not None for value in options.values()
        ):
            return None
        found = [tuple(each.shape) for each in (*tensors, *outputs)]
        if len(tensors) != 1 or len(outputs) != 1 or len(set(found)) != 1:
            return None
        dtypes = [str(each.dtype) for each in (*tensors, *outputs)]
        if found[0][-1] != size or not all("float" in each for each in dtypes):
            return None
    shape = known_shape(nodes[0].outputs[0])
    every = list(itertools.product(_OFFSETS, repeat=len(weights)))
    modes = [{"training": mode} for mode in (False, True)]
    for mode in modes if keras_internals.takes_training(layer) else [{}]:
        every = [each for each in every if _divides(layer, shape, each, mode)]
    return next(iter(every), None)


def _divides(
    layer: Any, shape: tuple[int, ...], offsets: tuple[float, ...], mode: dict[str, bool]
) -> bool:
    """Return whether weights divided by a scale divide the output of a layer by it."""
    generator = np.random.default_rng(0)
    values = [values_of(weight) for weight in layer.weights]
    small = 1e-5 if str(layer.compute_dtype) == "float32" else 3e-2
    for spread in (0.0, 1.0, 4.0):
        x = generator.normal(size=shape) * 2.0 ** generator.uniform(-3, 3, shape[-1])
        weights = [value + spread * generator.normal(size=value.shape) for value in values]
        scale = 2.0 ** generator.uniform(-3, 3, shape[-1])
        divided = [(w + o) / scale - o for w, o in zip(weights, offsets, strict=True)]
        # Each weight matters: a layer that does not use it in this call may in another.
        others = [
            [w + (i == k) for i, w in enumerate(weights)] for k in range(len(weights))
        ]
        try:
            expected, actual, *changed = (
                _output(layer, each, x, mode) for each in (weights, divided, *others)
            )
        # The code of users can raise anything.
        except Exception:
            return False
        least = small * np.abs(expected).max()
        if np.abs(actual * scale - expected).max() > least:
            return False
        if any(np.abs(each - expected).max() <= least for each in changed):
            return False
    return True


def _output(layer: Any, weights: Sequence[Array], x: Array, mode: dict[str, bool]) -> Array:
    mapping = [
        (variable, ops.convert_to_tensor(value, dtype=variable.dtype))
        for variable, value in zip(layer.weights, weights, strict=True)
    ]
    with side_effects_undone(layer), keras.StatelessScope(mapping):
        result = layer(ops.convert_to_tensor(x, dtype=layer.compute_dtype), **mode)
    return np.asarray(ops.convert_to_numpy(ops.cast(result, "float32")), np.float64)
