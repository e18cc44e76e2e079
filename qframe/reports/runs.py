"""Run two models over the same data, and compare the outputs of their layers.

Both run in each step of `Model.predict`, so that only sums leave it, not the outputs of
inner layers.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from qframe import observation
from qframe.layers.slots import Slot, filled_slots
from qframe.quantizers import Quantizer
from qframe.reports.noise import Noise
from qframe.reports.saturation import at_the_ends

# The number of figures per example and call of a layer.
_FIGURES = 7
_OUTPUTS = "outputs"

# The path of a layer, and the layer in each model, or the one that both share.
Pair = tuple[str, Sequence[Any]]


@attrs.frozen
class Outputs:
    """The outputs of a layer in two models.

    Args:
        noise: the outputs of the first, and the noise that the second adds.
        first: the smallest and the largest number in the first.
        second: the same in the second.
    """

    noise: Noise
    first: tuple[float, float]
    second: tuple[float, float]

    @classmethod
    def of(cls, figures: NDArray[Any]) -> Outputs:
        """Sum up the figures of every batch."""
        signal, noise, product, *ends = (
            np.asarray(figures, np.float64).reshape(-1, _FIGURES).T
        )
        lows, highs = (end.min() for end in ends[::2]), (end.max() for end in ends[1::2])
        first, second = zip(map(float, lows), map(float, highs), strict=True)
        sums = (float(each.sum()) for each in (signal, noise, product))
        return cls(Noise(*sums), first, second)


@attrs.frozen
class SideBySide:
    """The outputs of two models that ran over the same data.

    Args:
        layers: by path, the outputs of the layers that both models called.
        different_shapes: by path, the shapes of both outputs where they differ.
        saturation: by path and slot, such as ``("dense", "input")``, the part of the
            numbers that are at an end of the grid in the second model.
        outputs: the outputs of both models for all examples; None without `keep_outputs`.
    """

    layers: Mapping[str, Outputs]
    different_shapes: Mapping[str, tuple[Any, Any]]
    saturation: Mapping[tuple[str, str], float]
    outputs: tuple[NDArray[Any], NDArray[Any]] | None


def side_by_side(
    model: Any,
    first: Callable[..., Any],
    pairs: Sequence[Pair],
    data: Any,
    keep_outputs: bool = False,
    **options: Any,
) -> SideBySide:
    """Run two models over data.

    Args:
        model: the second model.
        first: the call of the first model, with the call of `model` and its arguments.
        pairs: the layers whose outputs to compare.
        data: as in `Model.predict`.
        keep_outputs: whether to return the outputs of both models. Default False.
        **options: of `qframe.observation.run`.

    Raises:
        DataError: there is no batch.
    """
    observer = _PairObserver(model, first, pairs, keep_outputs)
    notes = observation.run(model, data, observer, **options)
    return SideBySide(
        {
            path: Outputs.of(*notes[f"{key}"])
            for key, (path, _) in enumerate(pairs)
            if f"{key}" in notes
        },
        observer.different_shapes,
        {
            (slot.path, slot.name): float(np.mean(notes[key]))
            for key, slot in observer.slots.items()
            if key in notes
        },
        (notes[_OUTPUTS][0], notes[_OUTPUTS][1]) if keep_outputs else None,
    )


class _PairObserver(observation.Observer):
    """Runs another model before each call of a model, and compares the outputs of layers.

    The arguments are those of `side_by_side`.
    """

    def __init__(
        self,
        model: Any,
        first: Callable[..., Any],
        pairs: Sequence[Pair],
        keep_outputs: bool,
    ) -> None:
        self._model, self._first, self._keep_outputs = model, first, keep_outputs
        self._paths = [path for path, _ in pairs]
        self.others = [layers[0] for _, layers in pairs]
        self._keys = collections.defaultdict(list)
        self.slots: dict[str, Slot] = {}
        self.different_shapes: dict[str, tuple[Any, Any]] = {}
        for key, (path, layers) in enumerate(pairs):
            for layer in {id(layer): layer for layer in layers}.values():
                self._keys[id(layer)].append(key)
            for slot in filled_slots(layers[-1]):
                known = slot.name and isinstance(slot.quantizer, Quantizer)
                if known and slot.is_activation:
                    name = f"{key}/{id(slot.quantizer)}"
                    self.slots[name] = attrs.evolve(slot, path=path)

    def begin(self, model: Any, args: tuple[Any, ...]) -> None:
        super().begin(model, args)
        self._outputs: dict[int, list[Any]] = collections.defaultdict(list)
        # The keys of the layers that are being called, the innermost last.
        self._called: list[list[int]] = []
        self._counting = False

    def on_layer(self, layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        if layer is self._model:
            return self._call_both(call, *args, **kwargs)
        keys = self._keys.get(id(layer))
        if keys is None:
            return call(*args, **kwargs)
        self._called.append(keys)
        try:
            outputs = call(*args, **kwargs)
        finally:
            self._called.pop()
        tensor = _first_tensor(outputs)
        for key in keys if getattr(tensor, "shape", ()) else ():  # a scalar has no batch
            self._outputs[key].append(tensor)
        return outputs

    def on_quantizer(
        self, quantizer: Any, call: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        values = call(inputs, *args, **kwargs)
        for key in self._called[-1] if self._counting and self._called else ():
            name = f"{key}/{id(quantizer)}"
            if name in self.slots:
                axis = kwargs.get("channel_axis", -1)
                ends = ops.cast(at_the_ends(quantizer, inputs, values, axis), "float32")
                flat = ops.reshape(ends, (ops.shape(ends)[0], -1))
                self.note(name, ops.mean(flat, axis=1))
        return values

    def _call_both(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Call both models, and note the figures of their layers."""
        # A step may call the model more than once; the last call counts.
        self._notes.clear()
        self._outputs.clear()
        result = self._first(call, *args, **kwargs)
        before = dict(self._outputs)
        self._outputs.clear()
        self._counting = True
        outputs = call(*args, **kwargs)
        self._counting = False
        for key, path in enumerate(self._paths):
            calls = list(zip(before.get(key, ()), self._outputs.get(key, ()), strict=False))
            shapes = [(tuple(a.shape), tuple(b.shape)) for a, b in calls]
            different = [(a, b) for a, b in shapes if len(a) != len(b) or a[1:] != b[1:]]
            if different:
                self.different_shapes[path] = different[0]
            elif calls:
                self.note(f"{key}", ops.concatenate([_figures(*pair) for pair in calls]))
        if self._keep_outputs:
            self.note(_OUTPUTS, _first_tensor(result), _first_tensor(outputs))
        return outputs


def _first_tensor(outputs: Any) -> Any:
    """Return the first tensor in a structure, or None."""
    return next(iter(tree.flatten(outputs)), None)


def _figures(first: Any, second: Any) -> Any:
    """Return by example the sums of a `Noise`, and the ends of both outputs."""
    pair = (ops.cast(x, "float32") for x in (first, second))
    a, b = (ops.reshape(x, (ops.shape(x)[0], -1)) for x in pair)
    sums = [ops.sum(x, axis=1) for x in (ops.square(a), ops.square(b - a), a * b)]
    ends = [end(x, axis=1) for x in (a, b) for end in (ops.min, ops.max)]
    return ops.stack([*sums, *ends], axis=1)
