"""The ranges of activations from data, without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError
from qframe.layers.attachment import float_class_of
from qframe.layers.slots import Slot, weight_slots
from qframe.layers.traces import models_with, retrace
from qframe.layers.tree import iter_slots
from qframe.passes.inputs import input_statistics
from qframe.passes.methods import method_of
from qframe.passes.ranges import METHODS
from qframe.passes.report import Report, Row
from qframe.passes.searching import Array
from qframe.quantizers import Quantizer
from qframe.quantizers.rounded import Rounded


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
    """Set the ranges of a quantized model from data, without training.

    The model runs once over the data, in float. Each quantizer that owns a range
    (`Traits.ranged`) gets the range of its inputs: those that gather a range, and those
    that learn a step or a bound, which then start from it. The range of a weight is
    computed from the weight. The batch size matters to a moving average only.

    Args:
        model: a quantized `keras.Model`, compiled or not.
        data: what `Model.predict` takes: arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator.
        method: ``"minmax"``, the smallest and largest numbers; ``"moving_average"``, the
            moving averages of the ends of the batches, as in training; ``"percentile"``;
            ``"mse"``, the range with the smallest mean squared error of quantization;
            ``"entropy"``, the range with the smallest Kullback-Leibler divergence. The
            last three use a sample: for each example and range 256 numbers at random
            positions, or twice the number of channels, so that each channel is sampled.
            Default ``"minmax"``.
        batch_size: for arrays; default None is Keras's 32.
        steps: the number of batches; all by default.
        verbose: 1 for the progress bar of `Model.predict`, 0 for none. Default ``"auto"``:
            one on standard error, if that is a terminal, once it takes two seconds.
        **options: of the method: ``momentum`` of a moving average (default 0.9, since
            there are fewer batches than in training), ``percentile`` (default 99.99; where
            it leaves a single number, the range is that of ``"minmax"``).

    Returns:
        The ranges by layer, the quantizers that could not be observed, and those whose
        inputs are a single number. The range of these includes the number and 0; for 0 it
        is from 0 to 1.

    Raises:
        ArgumentError: the model has no ranges, or the method or an option is wrong.
        DataError: the data is empty, or contains NaN or infinity, or its range does not
            fit a quantizer. No range was changed then.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> report = qf.quantize(model, "integer_inference")
        >>> data = np.random.default_rng(0).normal(size=(100, 3))
        >>> len(qf.calibrate(model, data, verbose=0).quantized)
        1
    """
    range_of = method_of("calibrate", METHODS, method, options)
    slots = _ranged(model)
    run = {"batch_size": batch_size, "steps": steps, "verbose": verbose}
    statistics = input_statistics(model, slots, data, range_of.samples, **run)
    ranges, reasons = {}, {}
    for key, slot in slots.items():
        inputs = statistics.get(key)
        if inputs is None:
            reasons[key] = "not reached, or only within a loop over time"
        elif inputs.low.min() < inputs.high.max():
            ranges[key] = range_of(inputs, slot.quantizer.grid_of_range)
        elif not slot.is_activation:
            reasons[key] = f"a weight of {inputs.low.min() + 0.0:g} alone makes no range"
        else:
            ranges[key] = _with_zero(inputs.low[0])
            reasons[key] = f"only the number {inputs.low.min() + 0.0:g} reached it"
    _set(slots, ranges)
    retrace(models_with(keras_internals.all_layers(model)))
    return _report(model, slots, ranges, reasons)


def _with_zero(value: Array) -> tuple[Array, Array]:
    """Return a range that includes a number and 0; for 0 up to 1, which gives a scale."""
    return np.minimum(value, 0.0), np.where(value == 0, 1.0, np.maximum(value, 0.0))


def _ranged(model: Any) -> dict[str, Slot]:
    """Map keys, equal in each process, to a slot of each quantizer with a range."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"calibrate takes a keras.Model, found {model!r}.")
    if not model.built:
        raise ArgumentError(
            f"{model.name!r} has no weights yet. Call it once with a batch, or load its "
            "weights, before you calibrate it."
        )
    slots: dict[int, Slot] = {}
    for slot in iter_slots(model):
        if isinstance(slot.quantizer, Quantizer) and slot.quantizer.traits.ranged:
            slots.setdefault(id(slot.quantizer), slot)
    if not slots:
        raise ArgumentError(
            f"{model.name!r} has no quantizer with a range to calibrate. Quantize it with "
            "one that has one, for example qframe.quantize(model, 'integer_inference') or "
            "qframe.quantize(model, {'input_quantizer': 'lsq'})."
        )
    return {f"{key}": slot for key, slot in enumerate(slots.values())}


def _set(slots: Mapping[str, Slot], ranges: Mapping[str, tuple[Array, Array]]) -> None:
    """Set all ranges, or none where one does not fit."""
    before = [
        (variable, ops.convert_to_numpy(variable))
        for key in ranges
        for variable in slots[key].quantizer.variables
    ]
    for key, ends in ranges.items():
        slot = slots[key]
        shape = slot.quantizer.range_shape()
        try:
            slot.quantizer.set_range(*(np.reshape(end, shape) for end in ends))
        except ArgumentError as error:
            for variable, value in before:
                variable.assign(value)
            raise DataError(
                f"the range found for {slot.key} of {slot.path!r} does not fit: "
                f"{error} No range was changed."
            ) from error


def _report(
    model: Any,
    slots: Mapping[str, Slot],
    ranges: Mapping[str, tuple[Array, Array]],
    reasons: Mapping[str, str],
) -> Report:
    rows: dict[str, Row] = {}
    for key, slot in slots.items():
        row = rows.get(slot.path, Row(slot.path, float_class_of(slot.layer).__name__))
        if key in ranges:
            low, high = ranges[key]
            text = f"{slot.quantizer!r} from {low.min():.4g} to {high.max():.4g}"
            row = attrs.evolve(row, settings={**row.settings, slot.key: text})
        if key in reasons:
            reason = f"{row.reason}; {slot.key}: {reasons[key]}".removeprefix("; ")
            row = attrs.evolve(row, reason=reason)
        rows[slot.path] = row
    return Report(f"{model.name} calibrated", tuple(rows.values()), _notes(model))


def _notes(model: Any) -> tuple[str, ...]:
    """Say that levels of weights were chosen for other ranges."""
    slots = iter_slots(model, weight_slots)
    paths = [slot.path for slot in slots if isinstance(slot.quantizer, Rounded)]
    if not paths:
        return ()
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return (
        f"the weights of {paths[0]!r}{others} were rounded for the ranges before. Write "
        "qframe.round_weights(model, data) again, which begins from the latent weights.",
    )
