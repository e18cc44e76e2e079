"""A check with numbers that scaled weights leave the outputs of a model as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe import keras_internals
from qframe.keras_internals.side_effects import side_effects_undone
from qframe.layers.float_scope import idle
from qframe.layers.quantized import Quantized
from qframe.models.shapes import built_tensors
from qframe.passes.equalization.equalized_weights import Scaled, new_values
from qframe.passes.equalization.followed_code import known_shape
from qframe.passes.weights import Array

_EXAMPLES = 4
# How far outputs may differ, relative to the largest of each, by the dtype of a layer.
_TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1}
TOLERANCE = 1e-4


class SameFunction:
    """Compares the outputs of a model with those that it has with scaled weights.

    Args:
        model: the model.
        data: arrays, of which some examples are taken. Other data is left to its user, and
            numbers are drawn as without data.
    """

    def __init__(self, model: Any, data: Any) -> None:
        self._model = model
        layers = keras_internals.all_layers(model)
        self._quantized = [each for each in layers if isinstance(each, Quantized)]
        dtypes = {str(each.compute_dtype) for each in layers}
        self._tolerance = max(_TOLERANCES.get(each, TOLERANCE) for each in dtypes)
        self._inputs, self._before = self._first_outputs(_candidates(model, data))

    def change_by(self, scaled: Sequence[Scaled]) -> str:
        """How scaled weights change the outputs, in words; empty where they do not."""
        if self._inputs is None:
            return "the model cannot be called with drawn numbers, to compare its outputs"
        changes = new_values(scaled).values()
        after = self._outputs(self._inputs, [(var, values) for var, values in changes])
        pairs = zip(self._before, after, strict=True)
        change = max((_difference(*pair) for pair in pairs), default=0.0)
        if change <= self._tolerance:
            return ""
        return f"with it, outputs of {self._model.name!r} change by {change:.2g} of theirs"

    def _first_outputs(self, candidates: Sequence[Callable[[], Any]]) -> Any:
        """The first inputs that the model takes, and its outputs."""
        for make in candidates:
            try:
                inputs = make()
                return inputs, self._outputs(inputs, [])
            # The code of users can raise anything.
            except Exception:
                continue
        return None, []

    def _outputs(self, inputs: Any, changes: Sequence[tuple[Any, Array]]) -> list[Array]:
        args, kwargs = inputs
        mapping = [
            (variable, ops.convert_to_tensor(values, dtype=variable.dtype))
            for variable, values in changes
        ]
        undone = side_effects_undone(self._model)
        with undone, idle(self._quantized), keras.StatelessScope(mapping):
            outputs = keras.tree.flatten(self._model(*args, **kwargs))
        return [
            np.asarray(ops.convert_to_numpy(ops.cast(each, "float32")), np.float64)
            for each in outputs
            if each is not None
        ]


def _difference(before: Array, after: Array) -> float:
    """The largest difference of two arrays, relative to the largest finite number."""
    finite = np.isfinite(before)
    if not np.array_equal(finite, np.isfinite(after)):
        return float("inf")
    difference = np.abs(before - after)[finite].max(initial=0)
    return float(difference / max(np.abs(before[finite]).max(initial=0), 1e-30))


def _candidates(model: Any, data: Any) -> list[Callable[[], Any]]:
    """Functions that make positional and keyword arguments for a model."""
    if all(isinstance(each, np.ndarray) for each in keras.tree.flatten(data)):
        return [lambda: ([keras.tree.map_structure(_first_examples, data)], {})]
    if keras_internals.graph_of(model) is not None:
        return [lambda: ([keras.tree.map_structure(_drawn, model.input)], {})]
    dtypes = (keras.config.floatx(), "int32")
    made = [built_tensors(model, dtype) for dtype in dtypes]
    return [partial(keras.tree.map_structure, _drawn, each) for each in made if each]


def _first_examples(values: Any) -> Any:
    return ops.convert_to_tensor(values[:_EXAMPLES])


def _drawn(tensor: Any) -> Any:
    """Numbers for a symbolic tensor: 0 and 1 for integers, which tokens and masks have."""
    generator = np.random.default_rng(0)
    shape = known_shape(tensor)
    if "float" in str(tensor.dtype):
        values: Any = generator.normal(size=shape)
    else:
        values = generator.integers(0, 2, shape)
    return ops.convert_to_tensor(values, dtype=tensor.dtype)
