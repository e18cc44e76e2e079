"""Equalize the channels of a model before it is quantized."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from qframe import keras_internals
from qframe.errors import ArgumentError
from qframe.layers.adapters import is_tied
from qframe.layers.attachment import float_class_of
from qframe.layers.traces import changing
from qframe.layers.tree import Site, sites
from qframe.observation.shapes import check_model
from qframe.passes.equalization.channel_groups import Group, Reader
from qframe.passes.equalization.channel_inputs import channel_statistics
from qframe.passes.equalization.channel_scales import METHODS
from qframe.passes.equalization.equalized_weights import Scaled, fitting, new_values
from qframe.passes.equalization.followed_code import FollowedCalls
from qframe.passes.equalization.grouping import Groups
from qframe.passes.equalization.same_function import SameFunction
from qframe.passes.equalization.scaling import Method, Statistics
from qframe.passes.methods import method_of
from qframe.passes.proofs import remark_on_training
from qframe.passes.report import Report, Row
from qframe.passes.restarting import built_optimizers
from qframe.passes.weights import Array, row_of, write


@attrs.frozen
class Equalization(Report):
    """The layers of a model whose channels were scaled, and the others with reasons."""

    column: ClassVar[str] = "Equalized"
    done: ClassVar[str] = "layers equalized"

    @property
    def equalized(self) -> tuple[Row, ...]:
        """The layers with scaled inputs or outputs."""
        return self.quantized


def equalize(
    model: Any,
    data: Any = None,
    method: str = "cle",
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    verbose: Any = "auto",
    **options: Any,
) -> Equalization:
    """Scale the channels between layers so that rounding loses less, in place.

    Where layers A and B have nothing between them that a positive scale of each channel
    cannot pass, as a ReLU or a pool,

        kernel_A' = kernel_A / s,  bias_A' = bias_A / s,  kernel_B' = s kernel_B

    for the channels that A makes and B reads. The model computes the same function in
    float and remains a plain Keras model. The methods choose s in float64:

        cle:          s = sqrt(max|kernel_A| max|kernel_B|) / max|kernel_B|
        smoothquant:  s = max|x|^alpha / max|kernel_B|^(1 - alpha)
        awq:          s = mean|x|^a / sqrt(max(mean|x|^a) min(mean|x|^a))

    of each channel x. `cle` goes over all pairs until no s is far from 1. `awq` takes the
    exponent a from 0 to 1 with the smallest squared error of the output of B once its
    kernel is rounded. Where several layers make or read a channel, as the query, key and
    value of an attention, they share s, from the largest of each; `awq` adds up their
    errors. A channel whose weights or inputs are all 0 keeps s = 1.

    The code of custom layers and subclassed models is followed with symbolic tensors, in
    inference and in training, with the arguments that the model gives. Then outputs in
    float are compared on a few examples: a scale that changes one by more than 1e-4 of the
    largest (float16: 2e-2, bfloat16: 1e-1) is dropped.

    Fold batch normalizations first (`qframe.fold_batchnorm`), then equalize, then call
    `qframe.quantize`. `cle` is for weights with one scale for each tensor, `smoothquant`
    for activations, `awq` for weights alone in few bits.

    Args:
        model: a built `keras.Model` of any topology; its layers of products are dense
            layers and convolutions of any kind, `EinsumDense` included.
        data: for ``"smoothquant"`` and ``"awq"``, what `Model.predict` takes; some hundred
            examples are enough. None for ``"cle"``.
        method: ``"cle"``, where A is a layer of products; ``"smoothquant"`` or ``"awq"``,
            where A may also be a normalization, whose scale and shift are divided, or a
            layer of users whose weights w, or 1 + w, are the last factors of its output.
        batch_size: for arrays; default None is Keras's 32.
        steps: the number of batches; all by default.
        verbose: as in `qframe.calibrate`.
        **options: of the method. ``sweeps`` (20) and ``tolerance`` (1e-3) of ``"cle"``,
            which ends once no s is further from 1; ``alpha`` (0.5) of ``"smoothquant"``;
            of ``"awq"`` ``bits`` (4) and ``group_size`` (128) of the rounding, which is
            symmetric in groups of inputs of each output, ``grid`` (20, steps from 0 to 1)
            and ``rows`` (32, positions of each example that the error is computed from).

    Returns:
        Each layer with the range of its scales, and the reason why the inputs of a layer
        of products are not scaled: a function is between that no scale passes; what A
        makes is also an output or input of a model; a layer is called by code that cannot
        be followed, as where it needs numbers, or by code that leaves another of its layers
        uncalled; a layer is quantized, or of a class that overrides its call; the numbers
        do not fit. The notes name optimizers that start again, and arguments such as a
        cache without which code was followed.

    Raises:
        ArgumentError: nothing can be equalized, or the method or an option is wrong.
        NotBuiltError: the model is not built yet.
        DataError: there is no data, or it leads to NaN or infinity. Nothing was changed
            then.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> layers = [keras.layers.Dense(4, "relu"), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((3,)), *layers])
        >>> x = np.random.default_rng(0).normal(size=(5, 3))
        >>> before = model.predict(x, verbose=0)
        >>> len(qf.equalize(model).equalized)
        2
        >>> np.allclose(model.predict(x, verbose=0), before, atol=1e-5)
        True

    Paper: Nagel et al., 2019, https://arxiv.org/abs/1906.04721, section 4.1; Xiao et al.,
        2022, https://arxiv.org/abs/2211.10438; Lin et al., 2023,
        https://arxiv.org/abs/2306.00978
    """
    chosen: Method = method_of("equalize", METHODS, method, options)
    check_model(model, "equalization")
    if data is None and chosen.takes_data:
        raise ArgumentError(
            f"method={method!r} needs data: qframe.equalize(model, data, {method!r}), or "
            "--data FILE.npz on the command line."
        )
    if data is not None and not chosen.takes_data:
        raise ArgumentError(
            f"method={method!r} reads weights alone, and takes no data: "
            f"qframe.equalize(model, method={method!r}), or no --data on the command line."
        )
    all_sites = list(sites(model))
    found = Groups(FollowedCalls(model), chosen.takes_norms)
    found.find(site.layer for site in all_sites)
    found.drop(chosen.refusal)
    statistics: Statistics = {}
    if found.groups and chosen.takes_data:
        run = {"batch_size": batch_size, "steps": steps, "verbose": verbose}
        statistics = _observed(model, found.groups, data, chosen.sampled_rows, run)
        found.drop(lambda group: _unreached(group, statistics))
    scaled, are_equal = fitting(found, chosen, statistics)
    if any(found.calls.code_around(layer) for layer in _layers_of(scaled)):
        scaled = _checked(SameFunction(model, data), found, scaled)
    rows = _rows(all_sites, scaled, found)
    if not scaled and not are_equal:
        text = " ".join(f"{row.path!r}: {row.reason}." for row in rows)
        raise ArgumentError(
            f"no layer of {model.name!r} can be equalized by {method!r}. {text}"
            if rows
            else f"{model.name!r} has no layer of products to equalize."
        )
    with keras_internals.strategy_scope(model):
        changed = _layers_of(scaled)
        optimizers = built_optimizers(changed)
        with changing(changed), contextlib.ExitStack() as undo:
            for variable, values in new_values(scaled).values():
                write(variable, values, undo)
            for optimizer in optimizers:
                optimizer.restart(undo)
            undo.pop_all()
    notes = (*(each.note() for each in optimizers), *_unused(found.calls, changed))
    return Equalization(f"{model.name} equalized", tuple(rows), notes)


def _observed(
    model: Any, groups: Sequence[Group], data: Any, rows: int, run: Mapping[str, Any]
) -> Statistics:
    """The statistics of what the layers of groups read, by the id of the layer."""
    readers: list[Reader] = [reader for group in groups for reader in group.readers]
    keyed = {f"{index}": reader for index, reader in enumerate(readers)}
    found = channel_statistics(model, keyed, data, rows, **run)
    return {id(keyed[key].layer): each for key, each in found.items()}


def _layers_of(scaled: Sequence[Scaled]) -> list[Any]:
    """The layers of groups, each once."""
    parts = (part for group, _ in scaled for part, _ in group.parts())
    return list({id(part.layer): part.layer for part in parts}.values())


def _checked(same: SameFunction, found: Groups, scaled: list[Scaled]) -> list[Scaled]:
    """The groups whose scales leave the outputs of the model as they are."""
    if not same.change_by(scaled):
        return scaled
    for pair in scaled:
        reason = same.change_by([pair])
        if reason:
            found.remove(pair[0], reason)
    kept = [pair for pair in scaled if any(pair[0] is group for group in found.groups)]
    reason = same.change_by(kept)
    for group, _ in kept if reason else []:
        found.remove(group, reason)
    return [] if reason else kept


def _unused(calls: FollowedCalls, changed: Sequence[Any]) -> list[str]:
    """Notes of the arguments without which the code around changed layers was followed."""
    around = {id(a): a for layer in changed for a in calls.code_around(layer)}
    unused = {
        type(holder).__name__: ", ".join(sorted(names))
        for key, holder in around.items()
        if (names := calls.unused.get(key))
    }
    return [
        f"The code of {name} was followed as the model calls it, without {names}."
        for name, names in unused.items()
    ]


def _unreached(group: Group, statistics: Statistics) -> str:
    missing = [r.layer.name for r in group.readers if id(r.layer) not in statistics]
    return f"{missing[0]!r} is not reached, or only in a loop over time" if missing else ""


def _rows(all_sites: Sequence[Site], scaled: Sequence[Scaled], found: Groups) -> list[Row]:
    """A row for each layer of products, and for each normalization that changes."""
    paths = {id(site.layer): site.path for site in all_sites}
    made, read = collections.defaultdict(list), collections.defaultdict(list)
    for pair in scaled:
        for maker in pair[0].makers:
            made[id(maker.layer)].append(pair)
        for reader in pair[0].readers:
            read[id(reader.layer)].append(pair)
    rows = []
    for site in all_sites:
        layer, reason = site.layer, ""
        settings: dict[str, str] = {}
        for group, scaling in read[id(layer)]:
            makers = ", ".join(paths.get(id(m.layer), m.layer.name) for m in group.makers)
            text = f"times {_span(scaling.factors)} from {makers}"
            before = settings.get("inputs")
            settings["inputs"] = f"{before}; {text}" if before else text
            settings |= scaling.settings
        if row_of(layer).activates and not settings:
            reason = found.reason_of(layer)
        elif is_tied(layer):
            reason = "it is tied: what it multiplies with is looked up, too"
        for _, scaling in made[id(layer)]:
            settings["outputs"] = f"divided by {_span(scaling.factors)}"
            reason = reason and f"inputs: {reason}"
        if settings or reason:
            remark = remark_on_training(layer, "scaled") if settings else ""
            reason = "; ".join(filter(None, (reason, remark)))
            kind = float_class_of(layer).__name__
            rows.append(Row(site.path, kind, settings, reason))
    return rows


def _span(factors: Array) -> str:
    return f"{factors.min():.3g} to {factors.max():.3g}"
