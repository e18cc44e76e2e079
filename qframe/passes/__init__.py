"""Passes over a model that exists: quantize it in place, plan that, take it back."""

from __future__ import annotations

from typing import Any

from qframe import keras_internals
from qframe.layers.attachment import (
    Recurrent,
    attach,
    detach,
    float_class_of,
    is_explicit,
    recurrent_layers,
    swap,
)
from qframe.layers.composite import Composite
from qframe.layers.quantized import Quantized
from qframe.layers.tree import sites
from qframe.passes.planning import Plan, make_plan
from qframe.passes.report import Report, Row

__all__ = ["Report", "plan", "quantize", "strip"]


def quantize(model: Any, rules: Any, *, strict: bool = False) -> Report:
    """Quantize a Keras model in place.

    Args:
        model: a built Keras model or layer of any topology.
        rules: words such as ``{"kernel_quantizer": "ste_sign"}`` for every layer that
            has them, or an ordered list of pairs (selector, words or None); the first
            that matches a layer wins. A selector is a layer class, a class name,
            ``"re:<regex on the path>"``, `qframe.first`, `qframe.last` or a callable
            layer -> bool. ``weight_quantizer`` means every weight but the bias.
        strict: a layer whose weights qframe does not know is an error. Default False: it
            is in the report.

    Returns:
        What was quantized with what, and what was skipped and why.

    Raises:
        QFrameError: a rule is about nothing or wrong, the model is not built, a
            quantizer does not fit. Nothing was changed then.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> report = qf.quantize(model, {"kernel_quantizer": "ste_sign"})
        >>> [row.path for row in report.quantized] == [model.layers[0].name]
        True
    """
    made = make_plan(model, rules, strict)
    _apply(made)
    return made.report(f"{model.name} quantized")


def plan(model: Any, rules: Any, *, strict: bool = False) -> Report:
    """The report of `quantize` with the same arguments; changes nothing.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> len(qf.plan(model, {"kernel_quantizer": "ste_sign"}).quantized)
        1
    """
    return make_plan(model, rules, strict).report(f"{model.name} planned")


def strip(model: Any, *, freeze: bool = False) -> Report:
    """Take the quantizers away: the way back to plain Keras layers.

    Args:
        model: a model with quantized layers.
        freeze: write the quantized values into the weights. By default these keep their
            latent values.

    Returns:
        The layers that were stripped, with the quantizers that they had. Quantizers of
        activations have no place in plain layers: under `freeze` too they are gone.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), qf.layers.QuantDense(4)])
        >>> report = qf.strip(model)
        >>> type(model.layers[0]) is keras.layers.Dense
        True
    """
    rows = []
    for site in list(sites(model)):
        layer = site.layer
        if isinstance(layer, Quantized):
            words = {f"{s}_quantizer": repr(q) for s, q in layer.quantizers.items()}
            rows.append(Row(site.path, float_class_of(layer).__name__, words))
            if freeze:
                for attribute, value in layer.quantized_weights().items():
                    getattr(layer, attribute).assign(value)
        detach(layer)
    keras_internals.reset_functions(model)
    return Report(f"{model.name} stripped", tuple(rows))


def _apply(made: Plan) -> None:
    before = [(site.layer, type(site.layer)) for site in sites(made.model)]
    words = {
        id(layer): _words(layer) for layer, _ in before if isinstance(layer, Quantized)
    }
    try:
        for entry in made.entries:
            if entry.words:
                _replace(entry.site.layer, entry.words)
        for layer in recurrent_layers([layer for layer, _ in before]):
            swap(layer, Recurrent)
        for entry in made.entries:
            unit = entry.site.unit
            if entry.words and not (entry.site.position == () and is_explicit(unit)):
                swap(unit, Composite)
    except BaseException:
        for layer, cls in before:
            if isinstance(layer, Quantized):
                if id(layer) in words:
                    _replace(layer, words[id(layer)])
                else:
                    detach(layer)
            layer.__class__ = cls
        raise
    keras_internals.reset_functions(made.model)


def _words(layer: Quantized) -> dict[str, Any]:
    """What a quantized layer has: its slots, and its constraints, None included."""
    slots = {f"{slot}_quantizer": q for slot, q in layer.quantizers.items()}
    keys = (f"{weight.prefix}_constraint" for weight in layer.adapter.weights)
    return slots | {key: getattr(layer, key) for key in keys if hasattr(layer, key)}


def _replace(layer: Any, words: Any) -> None:
    """Give a layer these words, and empty the slots that are not among them."""
    if isinstance(layer, Quantized):
        for slot in list(layer.quantizers):
            if f"{slot}_quantizer" not in words:
                del layer.quantizers[slot]
    attach(layer, words)
