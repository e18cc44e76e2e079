"""The loss of a model with one layer at a time in few bits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.errors import DataError, shown
from qframe.layers.float_scope import idle
from qframe.layers.quantized import Quantized
from qframe.layers.traces import retraced, synced_models_with
from qframe.layers.tree import sites
from qframe.observation import Progress
from qframe.observation.shapes import check_model
from qframe.passes.bit_widths.activations import activations_of_outputs
from qframe.passes.bit_widths.candidates import Candidate, candidates_of, checked_bits
from qframe.passes.bit_widths.examples import Examples
from qframe.passes.bit_widths.metrics import SensitivityMetric, metric_of
from qframe.passes.bit_widths.table import LayerSensitivity, Sensitivity
from qframe.registry.configurable import described

Array = NDArray[Any]
# Fewer examples rarely show what a layer loses.
_ENOUGH = 32


def sensitivity(
    model: Any,
    data: Any,
    bits: Any = (2, 3, 4, 6, 8),
    metric: Any = "kl",
    *,
    labels: Any = None,
    quantizer: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    verbose: Any = "auto",
) -> Sensitivity:
    r"""Measure what each layer alone loses in few bits, without training.

    .. math:: \mathrm{loss}(l, b) = \mathrm{metric}\left(f(x; w),\;
        f(x; w \text{ with } q_b(w_l) \text{ in place of } w_l)\right)

    The weights w are the latent ones: quantizers of weights that the model has rest, and
    those of activations run. Biases stay as they are. The model is traced once, and runs
    once for each layer and number of bits. It is unchanged afterwards.

    Args:
        model: a built `keras.Model` of any topology, in float or quantized.
        data: what `Model.predict` takes; some hundreds of examples. They are kept in
            memory.
        bits: integers from 1 to 16 that the quantizer takes. Default (2, 3, 4, 6, 8).
        metric: the name of a sensitivity metric: ``"kl"``, ``"sqnr"``, or ``"loss"``,
            which needs labels; or a `qframe.passes.SensitivityMetric`. Of several outputs
            the losses are added. Default ``"kl"``.
        labels: a label for each example; of several outputs a list, or a dict by their
            names. Default None: those in the data, where the metric needs them.
        quantizer: for the weights of every layer, as in `qframe.quantizers.get`; its bits
            are replaced. Default None: for a quantized weight its own quantizer, else the
            one of the recipe ``"integer_weights"``.
        batch_size: for arrays; default None is Keras's 32.
        steps: the number of batches; all by default.
        verbose: 0 for no progress bar. Default ``"auto"``: one on standard error, if that
            is a terminal, once it takes two seconds.

    Returns:
        The losses by layer and bits. Layers that cannot take part are rows with a reason.

    Raises:
        ArgumentError: `bits`, `metric` or `quantizer` is something else, or does not fit a
            layer; or no layer has a kernel.
        DataError: the data is empty or not finite, does not fit the model, or has no labels
            where the metric needs them; or the outputs are not finite, or the same for
            every example.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> dense = keras.layers.Dense(2, name="head")
        >>> model = keras.Sequential([keras.Input((4,)), dense])
        >>> data = np.random.default_rng(0).normal(size=(64, 4))
        >>> table = qf.sensitivity(model, data, bits=(2, 8), verbose=0)
        >>> table["head"].losses[2] > table["head"].losses[8] >= 0
        True

    Paper: Cai et al., 2020, https://arxiv.org/abs/2001.00281
    """
    check_model(model, "sensitivity")
    widths, measure = checked_bits(bits), metric_of(metric)
    candidates = candidates_of(model, widths, quantizer)
    examples = Examples.read(model, data, labels, measure.labelled, batch_size, steps)
    if measure.labelled and examples.labels is None:
        raise DataError(
            f"the metric {shown(metric)} compares outputs with labels, and the data has "
            "none. Give labels=, or write metric='kl'."
        )
    measured = [c for c in candidates if c.quantizers]
    runs = 1 + len(measured) * len(widths)
    with _restored(model), _bar(verbose, runs * examples.batches) as seen:
        reference = _Reference.of(model, measure, examples, seen)
        rows = [_row(model, c, widths, reference, seen) for c in candidates]
    return Sensitivity(
        model.name,
        described(measure),
        widths,
        tuple(rows),
        examples.count,
        measure.decibels,
        reference.notes(),
    )


@attrs.frozen(eq=False)
class _Reference:
    """The outputs of the model in float, with which others are compared.

    Args:
        metric: the metric.
        examples: the examples.
        outputs: the outputs.
        activations: the functions at their ends, or None each.
        labels: the labels of each output, or None each.
        changing: the variables that a run changes, with their values before it.
    """

    metric: SensitivityMetric
    examples: Examples
    outputs: Sequence[Array]
    activations: Sequence[str | None]
    labels: Sequence[Array | None]
    changing: Sequence[tuple[Any, Any]]

    @classmethod
    def of(
        cls, model: Any, metric: SensitivityMetric, examples: Examples, seen: Any
    ) -> _Reference:
        trainable = {id(variable) for variable in model.trainable_variables}
        state = [pair for pair in _values(model) if id(pair[0]) not in trainable]
        outputs = examples.outputs(model, seen)
        # Such as the states of a stateful recurrent layer.
        changing = [
            (v, before)
            for v, before in state
            if not np.array_equal(ops.convert_to_numpy(v), before)
        ]
        activations = activations_of_outputs(model, len(outputs))
        labels = _labels_of(examples, len(outputs))
        reference = cls(metric, examples, outputs, activations, labels, changing)
        reference.check(model)
        return reference

    def check(self, model: Any) -> None:
        """Raise for outputs that say nothing."""
        for output, activation in zip(self.outputs, self.activations, strict=True):
            if not np.isfinite(output).all():
                raise DataError(
                    f"the outputs of {model.name!r} with its weights in float contain NaN "
                    "or infinity. Check its weights and the data."
                )
            if len(output) > 1 and (output == output[:1]).all():
                raise DataError(
                    f"the outputs of {model.name!r} are the same for all {len(output)} "
                    "examples, so that no loss can show. Give examples as it was trained, "
                    "and calibrate quantized activations first: qframe.calibrate(model, "
                    "data)."
                )
            self.metric.assumption(output, activation)

    def loss(self, model: Any, seen: Any) -> float:
        """The loss of the model as it is now."""
        for variable, value in self.changing:
            variable.assign(value)
        total = 0.0
        outputs = self.examples.outputs(model, seen)
        for index, output in enumerate(outputs):
            if not np.isfinite(output).all():
                return float("inf")
            total += self.metric(
                self.outputs[index], output, self.labels[index], self.activations[index]
            )
        return float(total) if np.isfinite(total) else float("inf")

    def notes(self) -> tuple[str, ...]:
        """What the metric took the outputs for, and whether there were few examples."""
        notes = []
        for index, output in enumerate(self.outputs):
            text = self.metric.assumption(output, self.activations[index])
            which = f"Output {index + 1} is" if len(self.outputs) > 1 else "The outputs are"
            if text:
                notes.append(f"{which} taken as {text}.")
        count = self.examples.count
        if count < _ENOUGH:
            notes.append(
                f"{count} example{'s' * (count != 1)} may not show what a layer loses; "
                f"give {_ENOUGH} or more."
            )
        return tuple(notes)


def _labels_of(examples: Examples, outputs: int) -> Sequence[Array | None]:
    if examples.labels is None:
        return [None] * outputs
    if len(examples.labels) != outputs:
        raise DataError(
            f"the model has {outputs} outputs, and there are {len(examples.labels)} arrays "
            "of labels. Give one for each output."
        )
    return examples.labels


def _row(
    model: Any, candidate: Candidate, bits: Sequence[int], reference: _Reference, seen: Any
) -> LayerSensitivity:
    row = LayerSensitivity(
        candidate.path,
        candidate.kind,
        candidate.shapes,
        tied=candidate.tied,
        reason=candidate.reason,
    )
    if not candidate.quantizers:
        return row
    losses = {}
    for width in bits:
        with _in_bits(candidate, width):
            losses[width] = reference.loss(model, seen)
    settings = {width: candidate.settings(width) for width in bits}
    return attrs.evolve(row, losses=losses, settings=settings)


@contextlib.contextmanager
def _in_bits(candidate: Candidate, bits: int) -> Iterator[None]:
    """Let the variables of a layer hold its weights in few bits, until the block ends.

    A traced function reads a variable when it runs: TensorFlow and PyTorch by reference,
    and on JAX Keras passes the values as arguments. So one trace serves all values, where a
    quantizer in the trace would need another for each layer and number of bits.
    """
    pairs = list(zip(candidate.slots, candidate.quantizers[bits], strict=True))
    before = [ops.convert_to_numpy(slot.variable) for slot in candidate.slots]
    try:
        for slot, quantizer in pairs:
            trial = attrs.evolve(slot, quantizer=quantizer)
            slot.variable.assign(trial.quantized_value())
        yield
    finally:
        for slot, value in zip(candidate.slots, before, strict=True):
            slot.variable.assign(value)


def _values(model: Any) -> list[tuple[Any, Array]]:
    """All variables of a model with their values.

    Keras does not list the states that a recurrent layer keeps between batches.
    """
    layers = keras_internals.all_layers(model)
    states = tree.flatten([getattr(layer, "states", None) or () for layer in layers])
    kept = [state for state in states if hasattr(state, "assign")]
    return [(v, ops.convert_to_numpy(v)) for v in (*model.variables, *kept)]


@contextlib.contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Run a model with the quantizers of its weights at rest, and restore all variables."""
    quantized = [s.layer for s in sites(model) if isinstance(s.layer, Quantized)]
    synced_models_with([model, *quantized])
    before = _values(model)
    try:
        with (
            retraced([model]),
            keras_internals.restored_on_failure(model),
            idle(quantized, activations=False),
        ):
            yield
    finally:
        for variable, value in before:
            variable.assign(value)


@contextlib.contextmanager
def _bar(verbose: Any, batches: int) -> Iterator[Any]:
    """A function to call after each batch, which moves a progress bar."""
    if not verbose:
        yield None
        return
    with Progress("sensitivity") as progress:
        progress.set_params({"steps": batches})
        done = iter(range(2**63 - 1))
        yield lambda: progress.on_predict_batch_end(next(done))
