"""The ranges of activations from data, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, did_you_mean
from qframe.layers.quantized import Quantized
from qframe.layers.tree import Site, sites
from qframe.passes.ranges import METHODS, Seen
from qframe.passes.report import Report, Row
from qframe.quantizers import Quantizer, taps

Array = NDArray[Any]

# Of one example and channel, of each tensor: enough for a percentile over many examples.
_SAMPLES = 256


def calibrate(
    model: Any,
    data: Any,
    method: str = "minmax",
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    verbose: Any = "auto",
    **options: float,
) -> Report:
    """Set the ranges of a quantized model's activations from data, without training.

    The model runs in float over the data, once, and each quantizer that owns a range
    (`Traits.ranged`) gets one for what reached it. Results do not depend on the size of
    the batches.

    Args:
        model: a quantized `keras.Model`, compiled or not.
        data: what `Model.predict` takes: arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator.
        method: ``"minmax"``, the smallest and largest numbers; ``"moving_average"``, of
            those of the examples; ``"percentile"``; ``"mse"``, the range with the smallest
            mean squared error of quantization; ``"entropy"``, the one with the smallest
            Kullback-Leibler divergence. The last three look at 256 numbers of each
            example and channel at most. Default ``"minmax"``.
        batch_size: for arrays; default None is Keras's 32.
        steps: how many batches; all by default.
        verbose: the progress bar, as in `Model.predict`. Default ``"auto"``.
        **options: of the method: ``momentum`` (default 0.9) of a moving average,
            ``percentile`` (default 99.99).

    Returns:
        Each range that was set, by layer; and the layers whose quantizers could not be
        listened to, with the reason.

    Raises:
        ArgumentError: the model has no ranges, or the method or an option is wrong.
        DataError: the data is empty, constant at a quantizer, or holds NaN or infinity.
            No range was changed then.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> report = qf.quantize(model, "integer_inference")
        >>> data = np.random.default_rng(0).normal(size=(100, 3))
        >>> len(qf.calibrate(model, data, verbose=0).quantized)
        1
    """
    find = _method(method, options)
    held = _ranged(model)
    heard = _listen(model, held, data, find.samples, batch_size, steps, verbose)
    ranges = {}
    for key, (site, slot, quantizer) in held.items():
        if key in heard:
            seen = _seen(heard[key], site, slot)
            ranges[key] = find(seen, quantizer.precision or 8)
    return _set(model, held, ranges)


def _method(name: str, options: Mapping[str, float]) -> Any:
    if name not in METHODS:
        raise ArgumentError(
            f"calibrate has no method {name!r}."
            + did_you_mean(str(name), METHODS)
            + f" It has: {', '.join(METHODS)}."
        )
    cls = METHODS[name]
    known = [field.name for field in attrs.fields(cls)]
    for option in options:
        if option not in known:
            raise ArgumentError(
                f"the method {name!r} has no option {option!r}; it has "
                f"{', '.join(known) or 'none'}."
            )
    return cls(**options)


def _ranged(model: Any) -> dict[str, tuple[Site, str, Any]]:
    """The quantizers with ranges, by a key: where each is."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"calibrate takes a keras.Model, found {model!r}.")
    found: dict[str, tuple[Site, str, Any]] = {}
    seen = set()
    for site in sites(model):
        layer = site.layer
        slots = dict(layer.quantizers) if isinstance(layer, Quantized) else {}
        if isinstance(layer, Quantizer):
            slots[""] = layer
        for slot, quantizer in slots.items():
            known = isinstance(quantizer, Quantizer) and quantizer.traits.ranged
            if known and id(quantizer) not in seen:
                seen.add(id(quantizer))
                found[f"{len(found)}"] = (site, slot, quantizer)
    if not found:
        raise ArgumentError(
            f"{model.name!r} has no quantizer with a range to calibrate. Quantize it with "
            "one that gathers ranges, for example qframe.quantize(model, "
            "'integer_inference')."
        )
    return found


def _listen(
    model: Any,
    held: Mapping[str, tuple[Site, str, Any]],
    data: Any,
    samples: bool,
    batch_size: int | None,
    steps: int | None,
    verbose: Any,
) -> dict[str, list[Array]]:
    """What reached each quantizer: per example the ends, and numbers between them."""
    keys = {id(quantizer): key for key, (_, _, quantizer) in held.items()}
    predict_step = model.predict_step

    reached = []

    def step(*args: Any) -> Any:
        reached.append(True)
        heard: dict[str, list[Any]] = {}

        def listener(quantizer: Any, inputs: Any) -> Any:
            key = keys.get(id(quantizer))
            if key is not None:
                shape = quantizer.range_shape()
                heard.setdefault(key, []).append(_summary(inputs, shape, samples))
            return inputs

        with taps.listening(listener):
            result = predict_step(*args)
        found = {
            key: [ops.concatenate(parts, axis=1) for parts in zip(*each, strict=True)]
            for key, each in heard.items()
        }
        # On JAX a step returns the state too.
        return (found, result[1]) if keras.backend.backend() == "jax" else found

    with _stepping(model, step):
        try:
            heard: dict[str, list[Array]] = model.predict(
                data, batch_size=batch_size, steps=steps, verbose=verbose
            )
        except (UnboundLocalError, TypeError) as error:
            if reached:
                raise
            # Keras's own, where there is no batch.
            raise DataError("the calibration data is empty.") from error
    return heard


@contextlib.contextmanager
def _stepping(model: Any, step: Any) -> Iterator[None]:
    """Let `predict` make other steps; and trace its calls anew, now and afterwards."""
    with keras_internals.traced_anew(model), keras_internals.kept_on_jax(model):
        model.predict_step = step
        try:
            yield
        finally:
            del model.predict_step


def _summary(x: Any, shape: tuple[int, ...], samples: bool) -> list[Any]:
    """Of each example: the smallest and largest number, and some between them.

    Each is (examples, 1 or more, channels).
    """
    x = ops.cast(x, "float32")
    rank, channels = len(x.shape), [i for i, size in enumerate(shape) if size != 1]
    # From the end, since a range of one rank may be of a tensor of another.
    kept = [rank - len(shape) + i for i in channels]
    others = [axis for axis in range(1, rank) if axis not in kept]
    x = ops.transpose(x, [0, *others, *kept])
    count = int(np.prod([shape[i] for i in channels], dtype=int))
    x = ops.reshape(x, (ops.shape(x)[0], -1, count))
    ends = [ops.min(x, axis=1, keepdims=True), ops.max(x, axis=1, keepdims=True)]
    if not samples:
        return ends
    known = x.shape[1]
    stride = 1 if known is None else max(1, known // _SAMPLES)
    return [*ends, x[:, ::stride]]


def _seen(parts: list[Array], site: Site, slot: str) -> Seen:
    """What reached a quantizer, checked."""
    where = f"{site.path!r}" + (f" ({slot})" if slot else "")
    low, high, *rest = (np.asarray(part, np.float64) for part in parts)
    if not len(low):
        raise DataError("the calibration data is empty.")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DataError(
            f"NaN or infinity reached {where}. Look for it in the calibration data and in "
            "the weights; no range was changed."
        )
    if low.min() == high.max():
        raise DataError(
            f"only the number {low.min() + 0.0:g} reached {where}, which makes no range. "
            "Give calibration data that differs; no range was changed."
        )
    return Seen(
        low.min(1), high.max(1), rest[0].reshape(-1, low.shape[2]) if rest else None
    )


def _set(
    model: Any, held: Mapping[str, tuple[Site, str, Any]], ranges: Mapping[str, Any]
) -> Report:
    rows: dict[str, Row] = {}
    for key, (site, slot, quantizer) in held.items():
        name = f"{slot}_quantizer" if slot else "quantizer"
        kind = getattr(type(site.layer), "float_class", type(site.layer)).__name__
        row = rows.setdefault(site.path, Row(site.path, kind, {}))
        if key not in ranges:
            reason = f"{name}: not reached, or only within a loop over time"
            rows[site.path] = Row(site.path, kind, row.words, reason)
            continue
        low, high = ranges[key]
        shape = quantizer.range_shape()
        quantizer.set_range(*(np.reshape(end, shape) for end in (low, high)))
        told = f"{quantizer!r} from {low.min():.4g} to {high.max():.4g}"
        rows[site.path] = Row(site.path, kind, {**row.words, name: told}, row.reason)
    keras_internals.reset_functions(model)
    return Report(f"{model.name} calibrated", tuple(rows.values()))
