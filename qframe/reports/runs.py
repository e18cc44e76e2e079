"""Two models run over the same data, side by side, and what their layers return.

Both run in each step of `Model.predict`, so that only sums leave it: the outputs of no
layer within are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.layers.quantized import Quantized
from qframe.layers.slots import ACTIVATIONS
from qframe.layers.tree import Site, sites
from qframe.passes.stepping import seen_in_steps
from qframe.quantizers import Quantizer
from qframe.reports.noise import Noise
from qframe.reports.notes import Notes, first_tensor

# What is within them is called within a loop over time, which nothing can leave.
_LOOPS = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)
# Of each example, in a call of a layer.
_FIGURES = 7
_OUTPUTS = "outputs"

# The path of a layer, and the layer in each of the models; one if it is in both.
Pair = tuple[str, Sequence[Any]]
# By the key of a layer and the id of a quantizer: it, and the path and the slot.
Places = dict[tuple[int, int], tuple[Any, tuple[str, str]]]


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
    """What a run of two models found.

    Args:
        layers: by path, of the layers that both called.
        unlike: by path, the shapes of layers that return others in the second model.
        saturation: by path and slot, such as ``("dense", "input")``, the part of the
            numbers that are at an end of the grid in the second model.
        outputs: of both models, of every example; None where they were not asked for.
    """

    layers: Mapping[str, Heard]
    unlike: Mapping[str, tuple[Any, Any]]
    saturation: Mapping[tuple[str, str], float]
    outputs: tuple[NDArray[Any], NDArray[Any]] | None


def side_by_side(
    model: Any,
    first: Callable[..., Any],
    pairs: Sequence[Pair],
    data: Any,
    *,
    batch_size: int | None,
    verbose: Any,
    purpose: str,
    keep_outputs: bool = False,
) -> SideBySide:
    """Run two models over data.

    Args:
        model: the second one.
        first: what to call for the first, with the call of `model` and its arguments.
        pairs: the layers to compare the outputs of.
        data: as in `Model.predict`.
        batch_size: as there.
        verbose: as in `qframe.calibrate`.
        purpose: what the data is for, to be said.
        keep_outputs: whether the outputs of both models are wanted. Default False.

    Raises:
        DataError: there is no batch.
    """
    here = Notes()
    unlike: dict[str, tuple[Any, Any]] = {}
    places = _places(pairs)
    call = model.call

    def both(*args: Any, **kwargs: Any) -> Any:
        result, before = here.noted(lambda: first(call, *args, **kwargs))
        here.saturation = {}
        outputs, after = here.noted(lambda: call(*args, **kwargs))
        here.compared = {
            f"{key}/{quantizer}": ops.concatenate(parts)
            for (key, quantizer), parts in here.saturation.items()
            if (key, quantizer) in places
        }
        for key, (path, _) in enumerate(pairs):
            calls = list(zip(before.get(key, ()), after.get(key, ()), strict=False))
            shapes = [(tuple(a.shape), tuple(b.shape)) for a, b in calls]
            others = [(a, b) for a, b in shapes if len(a) != len(b) or a[1:] != b[1:]]
            if others:
                unlike[path] = others[0]
            elif calls:
                here.compared[f"{key}"] = ops.concatenate([_figures(*c) for c in calls])
        if keep_outputs:
            here.compared[_OUTPUTS] = [first_tensor(result), first_tensor(outputs)]
        return outputs

    @contextlib.contextmanager
    def watch(*_: Any) -> Iterator[Any]:
        yield lambda: here.compared

    with contextlib.ExitStack() as stack:
        for key, (_, layers) in enumerate(pairs):
            for layer in layers:
                stack.enter_context(_calling(layer, here.noting(layer.call, key)))
        for quantizer in {id(q): q for q, _ in places.values()}.values():
            stack.enter_context(_calling(quantizer, here.counting(quantizer)))
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
            place: float(np.mean(found[f"{key}/{quantizer}"]))
            for (key, quantizer), (_, place) in places.items()
            if f"{key}/{quantizer}" in found
        },
        tuple(found[_OUTPUTS]) if keep_outputs else None,
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


def _places(pairs: Sequence[Pair]) -> Places:
    """The slots for activations of the second layers, and a key for each."""
    found: Places = {}
    for key, (path, layers) in enumerate(pairs):
        layer = layers[-1]
        for slot in ACTIVATIONS if isinstance(layer, Quantized) else ():
            quantizer = layer.quantizers.get(slot)
            if isinstance(quantizer, Quantizer):
                found[key, id(quantizer)] = quantizer, (path, slot)
    return found


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
