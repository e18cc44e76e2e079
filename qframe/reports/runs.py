"""Two models run over the same data, side by side, and what their layers return.

Both run in each step of `Model.predict`, so that only sums leave it: the outputs of no
layer are kept.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from qframe.layers.quantized import Quantized
from qframe.layers.slots import ACTIVATIONS
from qframe.layers.tree import Site, sites
from qframe.passes.stepping import seen_in_steps
from qframe.quantizers import Quantizer
from qframe.reports.noise import Noise
from qframe.reports.saturation import at_the_ends

# What is within them is called within a loop over time, which nothing can leave.
_LOOPS = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)
# Of each call of a layer and each example.
_FIGURES = 7
_OUTPUTS = "outputs"

Found = Mapping[str, NDArray[Any]]


@attrs.frozen
class Heard:
    """What a layer returned in two models.

    Args:
        noise: the numbers of the first, and what the second adds to them.
        first: the smallest and the largest number in the first.
        second: the same in the second.
    """

    noise: Noise
    first: tuple[float, float]
    second: tuple[float, float]

    @classmethod
    def of(cls, figures: NDArray[Any]) -> Heard:
        signal, noise, product, *ends = (
            np.asarray(figures, np.float64).reshape(-1, _FIGURES).T
        )
        lows, highs = (end.min() for end in ends[::2]), (end.max() for end in ends[1::2])
        first, second = zip(map(float, lows), map(float, highs), strict=True)
        sums = (float(each.sum()) for each in (signal, noise, product))
        return cls(Noise(*sums), first, second)


@attrs.frozen
class SideBySide:
    """What a run of two models found.

    Args:
        layers: by path, of the layers that both called.
        unlike: by path, the shapes of layers that return others in the second model.
        saturation: by path and slot, such as ``("dense", "input")``, the part of the
            numbers that are at an end of the grid in the second model.
        outputs: of both models, of every example.
    """

    layers: Mapping[str, Heard]
    unlike: Mapping[str, tuple[Any, Any]]
    saturation: Mapping[tuple[str, str], float]
    outputs: tuple[NDArray[Any], NDArray[Any]]


class _Here(threading.local):
    """What is noted of the calls in this thread."""

    def __init__(self) -> None:
        self.outputs: dict[int, list[Any]] = {}
        self.saturation: dict[str, Any] = {}
        self.compared: dict[str, Any] = {}

    def noted(self, run: Callable[[], Any]) -> tuple[Any, dict[int, list[Any]]]:
        """What a run returns, and what the layers in it do, by their keys."""
        self.outputs = {}
        return run(), self.outputs

    def noting(self, call: Any, key: int) -> Callable[..., Any]:
        """The call of a layer, noted."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            tensor = _first(outputs)
            if getattr(tensor, "shape", ()):  # one that has a batch
                self.outputs.setdefault(key, []).append(tensor)
            return outputs

        return noted

    def counting(self, quantizer: Any, key: str) -> Callable[..., Any]:
        """The call of a quantizer, with what it puts at the ends counted."""
        call = quantizer.call

        def counted(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            values = call(inputs, *args, **kwargs)
            axis = kwargs.get("channel_axis", -1)
            ends = ops.cast(at_the_ends(quantizer, inputs, values, axis), "float32")
            # As often as the quantizer is called, the last call counts.
            self.saturation[key] = ops.mean(
                ops.reshape(ends, (ops.shape(ends)[0], -1)), axis=1
            )
            return values

        return counted


def side_by_side(
    model: Any,
    first: Callable[..., Any],
    pairs: Sequence[tuple[str, Sequence[Any]]],
    data: Any,
    *,
    batch_size: int | None = None,
    verbose: Any = "auto",
    purpose: str = "report",
) -> SideBySide:
    """Run two models over data.

    Args:
        model: the second one.
        first: what to call for the first, with the call of `model` and its arguments.
        pairs: the path and the layers (one, if it is in both) to compare the outputs of.
        data: as in `Model.predict`.
        batch_size: as there.
        verbose: as in `qframe.calibrate`.
        purpose: what the data is for, to be said.

    Raises:
        DataError: there is no batch.
    """
    here = _Here()
    unlike: dict[str, tuple[Any, Any]] = {}
    counted = _quantizers(model)
    call = model.call

    def both(*args: Any, **kwargs: Any) -> Any:
        result, before = here.noted(lambda: first(call, *args, **kwargs))
        here.saturation = {}
        outputs, after = here.noted(lambda: call(*args, **kwargs))
        here.compared = dict(here.saturation)
        for key, (path, _) in enumerate(pairs):
            calls = list(zip(before.get(key, ()), after.get(key, ()), strict=False))
            shapes = [[tuple(x.shape) for x in pair] for pair in calls]
            if any(len(of_first) != len(of_second) for of_first, of_second in shapes):
                unlike[path] = shapes[0][0], shapes[0][1]
            elif any(a[1:] != b[1:] for a, b in shapes):
                unlike[path] = next((a, b) for a, b in shapes if a[1:] != b[1:])
            elif calls:
                here.compared[f"{key}"] = ops.stack([_figures(*c) for c in calls], axis=1)
        here.compared[_OUTPUTS] = [_first(result), _first(outputs)]
        return outputs

    @contextlib.contextmanager
    def watch(*_: Any) -> Iterator[Any]:
        yield lambda: here.compared

    with contextlib.ExitStack() as stack:
        for key, (_, layers) in enumerate(pairs):
            for layer in layers:
                stack.enter_context(_calling(layer, here.noting(layer.call, key)))
        for name, (quantizer, _) in counted.items():
            stack.enter_context(_calling(quantizer, here.counting(quantizer, name)))
        stack.enter_context(_calling(model, both))
        found: Any = seen_in_steps(
            model,
            watch,
            data,
            batch_size=batch_size,
            steps=None,
            verbose=verbose,
            purpose=purpose,
        )
    return SideBySide(
        {p: Heard.of(found[f"{k}"]) for k, (p, _) in enumerate(pairs) if f"{k}" in found},
        unlike,
        {
            place: float(np.mean(found[key]))
            for key, (_, places) in counted.items()
            for place in places
            if key in found
        },
        tuple(found[_OUTPUTS]),
    )


def compared_sites(model: Any) -> list[Site]:
    """The layers of a model whose outputs can be seen: all but what is within a loop."""
    found: list[Site] = []
    loops: tuple[str, ...] = ()
    for site in sites(model):
        known = site.layer is model or isinstance(site.layer, keras.layers.InputLayer)
        if known or site.path.startswith(loops):
            continue
        if isinstance(site.layer, _LOOPS):
            loops = (*loops, f"{site.path}/")
        found.append(site)
    return found


def _quantizers(model: Any) -> dict[str, tuple[Any, list[tuple[str, str]]]]:
    """The quantizers of activations, each with the places that it is in, by a key."""
    found: dict[int, tuple[Any, list[tuple[str, str]]]] = {}
    for site in compared_sites(model):
        held = site.layer.quantizers if isinstance(site.layer, Quantized) else {}
        for slot in ACTIVATIONS:
            if isinstance(held.get(slot), Quantizer):
                found.setdefault(id(held[slot]), (held[slot], []))[1].append(
                    (site.path, slot)
                )
    return {f"q{index}": each for index, each in enumerate(found.values())}


@contextlib.contextmanager
def _calling(layer: Any, call: Any) -> Iterator[None]:
    """Let the call of a layer be another one."""
    before = layer.__dict__.get("call")
    layer.__dict__["call"] = call
    try:
        yield
    finally:
        del layer.__dict__["call"]
        if before is not None:  # a layer that is in both models
            layer.__dict__["call"] = before


def _figures(first: Any, second: Any) -> Any:
    """Of each example: the sums of a `Noise`, and the ends of both."""
    pair = (ops.cast(x, "float32") for x in (first, second))
    a, b = (ops.reshape(x, (ops.shape(x)[0], -1)) for x in pair)
    sums = [ops.sum(x, axis=1) for x in (ops.square(a), ops.square(b - a), a * b)]
    ends = [end(x, axis=1) for x in (a, b) for end in (ops.min, ops.max)]
    return ops.stack([*sums, *ends], axis=1)


def _first(outputs: Any) -> Any:
    return tree.flatten(outputs)[0]
