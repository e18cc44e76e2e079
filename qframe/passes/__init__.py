"""Passes over a model: plan, quantize in place, strip."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError
from qframe.layers.attachment import detach, float_class_of, replace, settings_of
from qframe.layers.composite import update_composites
from qframe.layers.quantized import Quantized
from qframe.layers.slots import filled_slots, weight_slots
from qframe.layers.substitution import latent
from qframe.layers.traces import changing
from qframe.layers.tree import iter_slots, sites
from qframe.models.notes import notes_of
from qframe.passes.bit_widths.allocation import allocate
from qframe.passes.bit_widths.front import Front, FrontPoint
from qframe.passes.bit_widths.measuring import sensitivity
from qframe.passes.bit_widths.metrics import SensitivityMetric
from qframe.passes.bit_widths.table import LayerSensitivity, Sensitivity
from qframe.passes.calibration import calibrate
from qframe.passes.equalization import equalize
from qframe.passes.folding import fold_batchnorm
from qframe.passes.integer_weights import integers
from qframe.passes.planning import make_plan
from qframe.passes.plans import ModelPlan
from qframe.passes.recalibration import recalibrate_batchnorm
from qframe.passes.report import Report, Row
from qframe.passes.rounding import round_weights
from qframe.passes.rounding.rounders import Rounding
from qframe.registry.configurable import described
from qframe.validation import advised

__all__ = [
    "Front",
    "FrontPoint",
    "LayerSensitivity",
    "Report",
    "Rounding",
    "Sensitivity",
    "SensitivityMetric",
    "allocate",
    "calibrate",
    "equalize",
    "fold_batchnorm",
    "integers",
    "plan",
    "quantize",
    "recalibrate_batchnorm",
    "round_weights",
    "sensitivity",
    "strip",
]


_ADVICE = (
    "Bits and quantizers are in the rules. Write for example qframe.{0}(model, 'int8'), a "
    "recipe of `qframe list --kind recipe`, or qframe.{0}(model, {{'weight_quantizer': "
    "'integer(bits=4)'}})."
)


@advised(_ADVICE.format("quantize"))
def quantize(model: Any, rules: Any, *, strict: bool = False) -> Report:
    """Quantize a Keras model in place.

    Args:
        model: a built Keras model or layer of any topology.
        rules: settings such as ``{"kernel_quantizer": "ste_sign"}`` for every layer that
            has the slots, or an ordered list of pairs (selector, settings or None); the
            first that matches a layer wins. A selector is a layer class, a class name,
            ``"re:<regex on the path>"``, `qframe.first`, `qframe.last` or a callable
            layer -> bool. ``weight_quantizer`` means every weight except the bias,
            ``edge_quantizer`` each tensor that passes between the steps of an integer
            runtime, such as a convolution with its batch normalization and ReLU.
        strict: raise for a layer whose weights qframe does not know. Default False: the
            report lists it.

    Returns:
        The quantizers of each layer, or the reason why it was skipped. Its `notes` name
        settings that cannot work, and what to type. Warns with a
        `ConstantActivationsWarning` where a sign reads values that are never negative.

    Raises:
        QFrameError: a rule is wrong or matches no layer, the model is not built, a
            quantizer does not fit. Nothing was changed then.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> report = qf.quantize(model, {"kernel_quantizer": "ste_sign"})
        >>> [row.path for row in report.quantized] == [model.layers[0].name]
        True
    """
    is_model = isinstance(model, keras.Model)
    with keras_internals.strategy_scope(model) if is_model else contextlib.nullcontext():
        planned = make_plan(model, rules, strict)
        report = _report(planned, "quantized")
        _apply(planned)
    return report


@advised(_ADVICE.format("plan"))
def plan(model: Any, rules: Any, *, strict: bool = False) -> Report:
    """Report what `quantize` would do with the same arguments; change nothing.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> len(qf.plan(model, {"kernel_quantizer": "ste_sign"}).quantized)
        1
    """
    return _report(make_plan(model, rules, strict), "planned")


def strip(model: Any, *, freeze: bool = False) -> Report:
    """Remove the quantizers, which leaves plain Keras layers.

    Args:
        model: a model with quantized layers.
        freeze: write the quantized values into the weights. By default the weights keep
            their latent values.

    Returns:
        The layers that were stripped, with the quantizers that they had. Plain layers
        have no quantizers of activations: under `freeze` the report says which were
        dropped.

    Raises:
        ArgumentError: under `freeze`, a quantized weight is not a variable. Nothing was
            changed then.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), qf.layers.QuantDense(4)])
        >>> report = qf.strip(model)
        >>> type(model.layers[0]) is keras.layers.Dense
        True
    """
    rows = []
    if freeze:
        _check_freeze(model)
    all_sites = list(sites(model))
    with changing(site.layer for site in all_sites if isinstance(site.layer, Quantized)):
        for site in all_sites:
            layer = site.layer
            if isinstance(layer, Quantized):
                slots = filled_slots(layer)
                settings = {slot.key: described(slot.quantizer) for slot in slots}
                dropped = [slot.key for slot in slots if slot.is_activation]
                reason = f"dropped: {', '.join(dropped)}" if freeze and dropped else ""
                kind = float_class_of(layer).__name__
                rows.append(Row(site.path, kind, settings, reason))
                if freeze:
                    for attribute, value in layer.quantized_weights().items():
                        latent(layer, attribute).assign(value)
            detach(layer)
    return Report(f"{model.name} stripped", tuple(rows))


def _report(planned: ModelPlan, done: str) -> Report:
    """Report a plan, and warn of each setting that cannot work."""
    notes = notes_of(planned.model, planned.slots_of())
    for note in notes:
        if note.category is not None:
            # The caller of `quantize`, which `advised` calls.
            warnings.warn(note.text, note.category, stacklevel=4)
    texts = tuple(note.text for note in notes)
    return planned.report(f"{planned.model.name} {done}", texts)


def _check_freeze(model: Any) -> None:
    for slot in iter_slots(model, weight_slots):
        if not hasattr(slot.variable, "assign"):
            raise ArgumentError(
                f"{slot.path!r} cannot be frozen: its {slot.attribute} is computed, "
                "as it is with LoRA, and not a variable to write to. "
                "qframe.strip(model) keeps the latent weights."
            )


def _apply(planned: ModelPlan) -> None:
    before = [(site.layer, type(site.layer)) for site in sites(planned.model)]
    settings = {
        id(layer): settings_of(layer) for layer, _ in before if isinstance(layer, Quantized)
    }
    changed = [plan for plan in planned.layers if plan.settings]
    with changing(plan.site.layer for plan in changed):
        try:
            for layer_plan in changed:
                replace(layer_plan.site.layer, layer_plan.settings)
            update_composites(planned.model, [plan.site.layer for plan in changed])
        except BaseException:
            for layer, cls in before:
                if isinstance(layer, Quantized):
                    if id(layer) in settings:
                        replace(layer, {})
                        replace(layer, settings[id(layer)])
                    else:
                        detach(layer)
                layer.__class__ = cls
            raise
