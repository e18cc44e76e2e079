"""What reaches the quantizers of a model that runs in float over data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops

from qframe import keras_internals
from qframe.errors import DataError
from qframe.layers.quantized import Quantized
from qframe.layers.substitution import latent
from qframe.layers.tree import Site
from qframe.passes.ranges import Seen
from qframe.passes.searching import Array
from qframe.passes.stepping import Found, seen_in_steps
from qframe.quantizers import taps
from qframe.quantizers.replicas import over_replicas

# Of one example and range, or more where there are more channels to see: enough for a
# percentile over many examples.
_OF_AN_EXAMPLE = 256
# Of a weight, which is one example.
_OF_A_WEIGHT = 2**16


@attrs.frozen
class Place:
    """A quantizer, and where it is: in a slot of a layer, or a layer itself."""

    site: Site
    slot: str
    quantizer: Any

    @property
    def word(self) -> str:
        """As which argument."""
        return f"{self.slot}_quantizer" if self.slot else "quantizer"

    @property
    def attribute(self) -> str | None:
        """Of the weight that it quantizes; None where it quantizes what is passed on."""
        layer = self.site.layer
        weights = layer.adapter.weights if isinstance(layer, Quantized) else ()
        return next((w.attribute for w in weights if w.prefix == self.slot), None)

    def weight(self) -> Any:
        """The latent weight; None where there is none."""
        layer: Any = self.site.layer
        variable = latent(layer, self.attribute or "") if layer.built else None
        return None if variable is None else keras_internals.latent_value(variable)


def heard_in(
    model: Any,
    places: Mapping[str, Place],
    data: Any,
    samples: bool,
    batch_size: int | None,
    steps: int | None,
    verbose: Any,
) -> dict[str, Seen]:
    """What reached each of the quantizers, by their keys.

    Raises:
        DataError: there is no batch, or NaN or infinity reached a quantizer.
    """
    passed = {key: place for key, place in places.items() if place.attribute is None}
    heard = _listen(model, passed, data, samples, batch_size, steps, verbose)
    for key, place in places.items():
        weight = None if key in passed else place.weight()
        if weight is not None:
            shape, count = place.quantizer.range_shape(), _OF_A_WEIGHT if samples else 0
            parts = _summary(ops.expand_dims(weight, 0), shape, count, ())
            heard[key] = [ops.convert_to_numpy(part) for part in parts]
    return {key: _seen(parts, places[key]) for key, parts in heard.items()}


def _listen(
    model: Any,
    places: Mapping[str, Place],
    data: Any,
    samples: bool,
    batch_size: int | None,
    steps: int | None,
    verbose: Any,
) -> Found:
    """Per example of the data the ends, and numbers between them."""
    keys = {id(place.quantizer): key for key, place in places.items()}

    @contextlib.contextmanager
    def watch(*_: Any) -> Iterator[Any]:
        heard: dict[str, list[Any]] = {}

        def listener(quantizer: Any, inputs: Any) -> Any:
            key = keys.get(id(quantizer))
            if key is not None:
                shape, count = quantizer.range_shape(), _OF_AN_EXAMPLE if samples else 0
                found = _summary(inputs, shape, count, quantizer.channel_axis)
                heard.setdefault(key, []).append(found)
            return inputs

        with taps.listening(listener):
            yield lambda: {
                key: [ops.concatenate(parts, axis=1) for parts in zip(*each, strict=True)]
                for key, each in heard.items()
            }

    return seen_in_steps(
        model,
        watch,
        data,
        batch_size=batch_size,
        steps=steps,
        verbose=verbose,
        purpose="calibration",
    )


def _summary(x: Any, shape: tuple[int, ...], samples: int, axis: Any) -> list[Any]:
    """Of each example: how many are in its batch, the ends, and so many samples if any.

    Each is (examples, 1 or more, 1 or channels), whatever the other sizes of `x`: batches
    of other sizes are put together with it. What is missing at the end of samples is NaN.
    """
    x = ops.cast(x, "float32")
    rank, channels = len(x.shape), [i for i, size in enumerate(shape) if size != 1]
    # From the end, since a range of one rank may be of a tensor of another.
    kept = [rank - len(shape) + i for i in channels]
    others = [i for i in range(1, rank) if i not in kept]
    sizes = [ops.shape(x)[i] if x.shape[i] is None else x.shape[i] for i in others]
    count = int(np.prod([shape[i] for i in channels], dtype=int))
    axes = np.atleast_1d(axis).tolist()
    seen = [x.shape[i] or 0 for i in others if i in axes or i - rank in axes]
    if kept:
        x = ops.transpose(x, [0, *others, *kept])
    x = ops.reshape(x, (ops.shape(x)[0], -1, count))
    ends = [ops.min(x, axis=1, keepdims=True), ops.max(x, axis=1, keepdims=True)]
    parts = [ops.ones_like(ends[0][:, :, :1]) * _batch_size(x), *ends]
    if not samples:
        return parts
    if not others:  # one number of each channel
        return [*parts, x]
    # Along one axis of channels, all of them.
    enough = [size * min(2, len(others)) for size in seen]
    return [*parts, _sampled(x, sizes, max([samples, *enough]))]


def _batch_size(x: Any) -> Any:
    """How many examples all replicas see in a step, as training counts them."""
    size = ops.cast(ops.shape(x)[0], "float32")
    # On PyTorch each process calibrates by itself.
    return size if keras.backend.backend() == "torch" else over_replicas(ops.sum, size)


def _sampled(x: Any, sizes: Sequence[Any], count: int) -> Any:
    """So many numbers of each example and channel; all, with NaN after them, if fewer.

    They are a Latin hypercube of the places: along each axis one within each `count`-th
    part of it. So each place is as likely as another, and twice as many samples as
    channels see every channel, wherever it is and whatever the sizes have in common.

    Args:
        x: the numbers, (examples, places, channels).
        sizes: of the axes that the places are along.
        count: how many numbers.
    """
    generator = np.random.default_rng(0)
    length, index = 1, np.zeros(count, "int32")
    for size in sizes:
        part = (generator.permutation(count) + generator.random(count)) / count
        if isinstance(size, int):
            place = (part * size).astype("int32")
        else:
            place = ops.cast(part.astype("float32") * ops.cast(size, "float32"), "int32")
            place = ops.minimum(place, size - 1)
        length, index = length * size, index * size + place
    order = np.arange(count, dtype="int32")
    index = ops.where(length <= count, ops.minimum(order, length - 1), index)
    missing = ops.reshape(order >= length, (1, -1, 1))
    return ops.where(missing, float("nan"), ops.take(x, index, axis=1))


def _seen(parts: list[Array], place: Place) -> Seen:
    """What reached a quantizer, checked."""
    where = f"{place.site.path!r}" + (f" ({place.slot})" if place.slot else "")
    sizes, low, high, *rest = (np.asarray(part, np.float64) for part in parts)
    if not len(low):
        raise DataError("the calibration data is empty.")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DataError(
            f"NaN or infinity reached {where}. Look for it in the calibration data and in "
            "the weights; no range was changed."
        )
    samples = rest[0].reshape(-1, low.shape[2]) if rest else None
    if samples is not None:
        samples = samples[~np.isnan(samples[:, 0])]
    starts = [0]
    while (end := starts[-1] + int(sizes[starts[-1]].flat[0])) < len(low):
        starts.append(end)
    return Seen(low.min(1), high.max(1), starts, samples)
