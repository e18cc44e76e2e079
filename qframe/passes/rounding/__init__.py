"""Weights rounded by the moments of their inputs, without training."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, QFrameError
from qframe.layers.slots import Slot, filled_slots, slot_of, weight_slots
from qframe.layers.traces import changing
from qframe.layers.tree import iter_slots
from qframe.models.ranges import rangeless_of
from qframe.observation import Progress
from qframe.observation.replay import Replay
from qframe.observation.shapes import check_data, check_model, checked_batches
from qframe.passes.report import Report, Row
from qframe.passes.rounding.choosing import choose
from qframe.passes.rounding.moments import Moments, gather
from qframe.passes.rounding.rounders import Rounder, rounder_of
from qframe.passes.rounding.sites import (
    Target,
    before,
    kind_of,
    latent_array,
    targets_of,
)
from qframe.quantizers import Quantizer
from qframe.quantizers.rounded import Corrected, Rounded
from qframe.validation import boolean, integer_within


@attrs.frozen
class RoundedWeights(Report):
    """The weights that were rounded, each with the error of its layer."""

    column: ClassVar[str] = "Rounded"
    done: ClassVar[str] = "weights rounded"

    @property
    def rounded(self) -> tuple[Row, ...]:
        """The weights that were rounded."""
        return self.quantized


def round_weights(
    model: Any,
    data: Any,
    method: str = "gptq",
    *,
    correct_biases: bool = True,
    samples: int = 8192,
    batch_size: int | None = None,
    steps: int | None = None,
    verbose: Any = "auto",
    **options: Any,
) -> RoundedWeights:
    r"""Choose the levels of quantized weights by their effect on the outputs.

    Layer after layer, in the order of the calls, the quantized weights :math:`W_q` become
    those with a small error

    .. math:: \lVert X_q W_q - X W \rVert^2 = \operatorname{tr}
        (W_q - W^*)^T H (W_q - W^*) + \text{a constant}, \quad H = X_q^T X_q, \quad
        W^* = (H + d I)^{-1} (X_q^T X + d I) W

    where X are the inputs of the layer in float, and :math:`X_q` those in the quantized
    model with the layers before it rounded. Its bias then makes up for the mean error. The
    scales are those that the quantizer has for :math:`W^*`; the rounder of the method
    chooses the levels.

    The latent weights do not change: the quantizer of a weight becomes a
    `qframe.quantizers.Rounded`, with the fixed grid and an offset for each number, and that
    of a bias a `qframe.quantizers.Corrected`. So `qframe.strip` gives back the float
    weights, and training goes on from the rounded ones.

    Call it after `qframe.quantize` and `qframe.calibrate`. A second call begins again.

    Args:
        model: a quantized `keras.Model` of any topology.
        data: what `Model.predict` takes; some hundreds of examples, without labels. If a
            layer has fewer rows than twice its inputs, their correlations count in part.
        method: an identifier of a rounder: ``"nearest"``, ``"gptq"``, ``"adaround"``, or
            one of a plugin. Default ``"gptq"``.
        correct_biases: whether biases make up for mean errors. Default True.
        samples: how many rows of inputs the moments of a layer are taken from, at random
            positions; at least four times its inputs are. Default 8192.
        batch_size: for arrays. Default None is 128.
        steps: the number of batches; all by default.
        verbose: 0 for no progress bar. Default ``"auto"``: one on standard error, if that
            is a terminal, once it takes two seconds.
        **options: of the rounder, such as ``damping`` of ``"gptq"``.

    Returns:
        The weights that were rounded, with the error by the formula above in percent of
        :math:`\operatorname{tr} W^{*T} H W^*`, and that of the nearest levels; those that
        were not, with the reason.

    Raises:
        ArgumentError: no weight is quantized to evenly spaced levels, an activation has no
            range yet, or an argument is wrong.
        UnknownNameError: no plugin offers the method.
        DataError: the data is empty, or contains NaN or infinity. Nothing was changed then.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> report = qf.quantize(model, "integer_inference(weight_bits=3)")
        >>> data = np.random.default_rng(0).normal(size=(64, 8))
        >>> report = qf.calibrate(model, data, verbose=0)
        >>> len(qf.round_weights(model, data, verbose=0).rounded)
        1

    Paper: Frantar et al., 2022, https://arxiv.org/abs/2210.17323
    """
    check_model(model, "round_weights")
    rounder = rounder_of(method, options)
    boolean("round_weights", "correct_biases", correct_biases)
    integer_within("round_weights", "samples", samples, 1, 2**31)
    batch_size, steps = checked_batches(batch_size, steps)
    check_data(model, data, "round_weights")
    targets, others = targets_of(model)
    if not targets:
        reasons = " ".join(f"{s.variable_path!r}: {reason}." for s, reason in others)
        raise ArgumentError(f"no weight of {model.name!r} can be rounded. {reasons}")
    _check_ranges(model)
    batches = list(keras_internals.batches(data, batch_size or _BATCH, steps))
    if not batches:
        raise DataError("the round_weights data is empty.")
    layers = [target.slot.layer for target in targets]
    settings = _Settings(method, rounder, correct_biases, samples)
    scope = keras_internals.strategy_scope(model)
    with scope, changing(layers), contextlib.ExitStack() as undo:
        for slot in (each for t in targets for each in (t.slot, t.bias) if each):
            if isinstance(slot.quantizer, (Rounded, Corrected)):
                _fill(slot, before(slot.quantizer), undo)
        found = _round_all(Replay(model, batches), targets, settings, verbose, undo)
        undo.pop_all()
    found |= {slot.variable_path: _row(slot, reason=reason) for slot, reason in others}
    paths = (slot.variable_path for slot in iter_slots(model, weight_slots))
    rows = tuple(found[path] for path in paths if path in found)
    return RoundedWeights(f"{model.name} rounded by {method}", rows)


@attrs.frozen(eq=False)
class _Settings:
    """The settings of a call of `round_weights`."""

    method: str
    rounder: Rounder
    correct_biases: bool
    samples: int


def _round_all(
    replay: Replay,
    targets: Sequence[Target],
    settings: _Settings,
    verbose: Any,
    undo: contextlib.ExitStack,
) -> dict[str, Row]:
    """Round one kernel after the other; returns a row for each by its path."""
    by_layer = collections.defaultdict(list)
    for target in targets:
        by_layer[id(target.slot.layer)].append(target)
    layers = [group[0].slot.layer for group in by_layer.values()]
    rows = {t.slot.variable_path: _row(t.slot, reason=_UNREACHED) for t in targets}
    done = itertools.count()
    with Progress("round_weights") as progress:
        progress.set_params({"steps": len(layers)})
        for place, inside in replay.places(layers):
            replay.advance(place)
            for layer in replay.called(place, inside):
                for target in by_layer[id(layer)]:
                    row = _round(replay, place, target, settings, undo)
                    rows[target.slot.variable_path] = row
                if verbose:
                    progress.on_predict_batch_end(next(done))
    return rows


def _round(
    replay: Replay,
    place: int,
    target: Target,
    settings: _Settings,
    undo: contextlib.ExitStack,
) -> Row:
    slot, bias = target.slot, target.bias if settings.correct_biases else None
    inputs = replay.inputs(place, slot.layer)
    weights = target.weights()
    moments = gather(target.matrices, weights, inputs, replay.sizes, settings.samples)
    if moments is None:
        return _row(slot, reason=_UNREACHED)
    choice = choose(target, moments, settings.method, settings.rounder, bias)
    _fill(slot, Rounded(before(slot.quantizer)), undo)
    rounded = slot_of(slot.layer, slot.name).quantizer
    rounded.set(latent_array(slot), choice.integers, choice.scale, choice.zero_point)
    found = slot_of(slot.layer, slot.name).integers().values
    if not np.array_equal(found, choice.integers):
        raise QFrameError(
            f"the levels of {slot.variable_path!r} are too fine for {slot.variable.dtype}: "
            "its quantizer does not return those that were chosen. Nothing was changed."
        )
    if bias is not None:
        _fill(bias, Corrected(before(bias.quantizer)), undo)
        slot_of(bias.layer, bias.name).quantizer.correction.assign(choice.correction)
    error, nearest = (f"{100 * part:.3g} %" for part in (choice.error, choice.nearest))
    return _row(
        slot, f"error {error}, nearest {nearest}", _remark(target, settings, moments)
    )


def _fill(slot: Slot, quantizer: Quantizer | None, undo: contextlib.ExitStack) -> None:
    """Put a quantizer into a slot, and restore the one before on failure."""
    undo.callback(slot.layer.set_slot, slot.name, slot.quantizer, tried=True)
    slot.layer.set_slot(slot.name, quantizer, tried=True)


def _remark(target: Target, settings: _Settings, moments: Moments) -> str:
    remarks = []
    if settings.correct_biases and target.bias is None:
        remarks.append("it has no bias to correct")
    inputs = moments.squares.shape[-1]
    if moments.are_few:
        remarks.append(
            f"the data makes {moments.rows} rows for its {inputs} inputs, so that their "
            "correlations count in part; give more examples"
        )
    return "; ".join(remarks)


def _row(slot: Slot, text: str = "", reason: str = "") -> Row:
    settings = {slot.attribute: text} if text else {}
    return Row(slot.path, kind_of(slot), settings, reason)


def _check_ranges(model: Any) -> None:
    """Raise where an activation is quantized and has no range yet."""
    rangeless = rangeless_of(model, filled_slots)
    paths = (*rangeless.gathered, *rangeless.frozen)
    if paths:
        raise ArgumentError(
            f"no range is set yet for the activations that are quantized in "
            f"{', '.join(map(repr, paths[:3]))}{' and others' if paths[3:] else ''}, and "
            "the levels depend on them. Write qframe.calibrate(model, data) first."
        )


# Fewer and larger batches than in training, since each call of a layer is eager.
_BATCH = 128
_UNREACHED = "no call of the model reaches it, or only in a loop over time"
