"""Profile a model."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, NotBuiltError
from qframe.layers.slots import filled_slots
from qframe.models.calls import Call, multiply
from qframe.models.kernels import MacCount, no_macs
from qframe.models.macs import counter_of, macs_of
from qframe.models.model_profile import ModelProfile
from qframe.models.notes import notes_of
from qframe.models.parts import CountedLayer, counted_layers, is_built
from qframe.models.precision import Bits, StoredBits, slot_bits
from qframe.models.records import LayerProfile, MacProfile, Tally, WeightProfile
from qframe.models.trace import calls_of
from qframe.quantizers import Quantizer


def profile_of(model: Any) -> ModelProfile:
    """Return the profile of a built model or layer."""
    counted = _built_layers(model)
    calls = calls_of(model)
    weights = _WeightProfiles(model)
    layers = [_profile(each, calls.get(id(each.layer), []), weights) for each in counted]
    # A model may have variables besides the layers of its graph.
    remaining = weights.of(model, model.weights)
    if remaining:
        macs = (MacProfile(None, None),)
        kind = _kind(model)
        layers.append(LayerProfile(model.name, kind, None, (None,), remaining, macs))
    notes = tuple(note.text for note in notes_of(model))
    return ModelProfile(model.name, tuple(layers), notes)


def products_of_weights(model: Any) -> dict[int, list[tuple[int | None, Bits]]]:
    """The products of each weight with activations for one sample, by the variable's id.

    Each entry is the number of products, None where it is not known, and the bits of the
    activation. A weight that is looked up, such as an embedding, has no entry.
    """
    calls = calls_of(model)
    products: dict[int, list[tuple[int | None, Bits]]] = collections.defaultdict(list)
    for counted in _built_layers(model):
        for call in calls.get(id(counted.layer), []) or [Call()]:
            for mac in _mac_counts(counted, call):
                entry = multiply(mac.count, call.times), mac.input_bits
                if mac.kernel is not None:
                    products[id(mac.kernel)].append(entry)
                elif mac.count is None:
                    # It may be that of any of its weights.
                    for weight in counted.weights:
                        products[id(weight)].append(entry)
    return dict(products)


def _built_layers(model: Any) -> list[CountedLayer]:
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentError(
            "a profile needs a Keras model or layer, found "
            f"{model!r} of type {type(model).__name__}. To read one from a file, write "
            "qframe.load_model('model.keras')."
        )
    counted = counted_layers(model) if model.built else []
    layers = [c.layer for c in counted if isinstance(c.layer, keras.layers.Layer)]
    # Keras marks a model as built even where it could not build its layers.
    if not model.built or (not model.weights and not all(part.built for part in layers)):
        raise NotBuiltError(
            f"{model.name!r} was asked for its profile and has no weights yet. Call it "
            f"on data first, or write {model.name}.build(input_shape) with the batch, "
            "such as (None, 28, 28, 1)."
        )
    return counted


class _WeightProfiles:
    """Profiles each variable of a model once, for the first layer that has it."""

    def __init__(self, model: Any) -> None:
        self._trainable = {id(variable) for variable in model.trainable_weights}
        self._counted: set[int] = set()

    def of(self, layer: Any, variables: Iterable[Any]) -> tuple[WeightProfile, ...]:
        fused = _fused_away(layer) | _folded(layer)
        stored = StoredBits(layer)
        profiles = []
        for variable in variables:
            if id(variable) in self._counted:
                continue
            self._counted.add(id(variable))
            if id(variable) not in fused:
                shape = tuple(int(dim) for dim in variable.shape)
                trainable = id(variable) in self._trainable
                bits, scales = stored.of(variable), stored.of_scales(variable)
                profiles.append(
                    WeightProfile(variable.name, shape, bits, trainable, scales)
                )
        return tuple(profiles)


def _fused_away(layer: Any) -> set[int]:
    """Return the variables of a batch normalization that inference does not store.

    Inference computes a * x + b: mean and beta are fused into b, variance and gamma into a.
    """
    if not isinstance(layer, keras.layers.BatchNormalization):
        return set()
    pairs = [(layer.beta, layer.moving_mean), (layer.gamma, layer.moving_variance)]
    return {
        id(first) for first, second in pairs if first is not None and second is not None
    }


def _folded(layer: Any) -> set[int]:
    """Return the variables of the quantizers of a layer that are part of the integers."""
    quantizers = (slot.quantizer for slot in filled_slots(layer))
    return {
        id(variable)
        for quantizer in quantizers
        if isinstance(quantizer, Quantizer)
        for variable in quantizer.folded_variables
    }


def _profile(
    counted: CountedLayer, calls: Sequence[Call], weights: _WeightProfiles
) -> LayerProfile:
    layer = counted.layer
    counts = [(call, _mac_counts(counted, call)) for call in calls or [Call()]]
    shapes = dict.fromkeys(shape for call in calls for shape in call.outputs)
    return LayerProfile(
        name=counted.path,
        kind=_kind(layer),
        input_precision=_input_precision(layer, [m for _, macs in counts for m in macs]),
        output_shapes=tuple(shapes) or (None,),
        weights=weights.of(layer, counted.weights) if counted.weights else (),
        macs=_macs(counts),
        built=_is_built(counted),
    )


def _is_built(counted: CountedLayer) -> bool:
    """Return whether all variables exist, with those of a quantizer in an Activation."""
    if not isinstance(counted.layer, keras.layers.Layer):
        return True  # an operation
    parts = () if counted.composite else keras_internals.sublayers(counted.layer)
    return counted.layer.built and all(map(is_built, parts))


def _mac_counts(counted: CountedLayer, call: Call) -> list[MacCount]:
    # The operations of code with the weights of a composite layer are not known, nor are
    # those of a layer that was not built.
    counter = counter_of(counted.layer)
    built = getattr(counted.layer, "built", True)
    if (counted.composite and counter is None) or (not built and counter is not no_macs):
        return [MacCount()]
    return list(macs_of(counted.layer, call))


def _macs(counts: Sequence[tuple[Call, Sequence[MacCount]]]) -> tuple[MacProfile, ...]:
    """Sum the counts by precision; a sum with an unknown count is unknown."""
    terms: dict[int | None, list[int | None]] = collections.defaultdict(list)
    for call, macs in counts:
        for each in macs:
            terms[each.precision].append(multiply(each.count, call.times))
    order = sorted(terms, key=lambda precision: (precision is None, precision or 0))
    return tuple(MacProfile(p, Tally.of(terms[p]).value) for p in order)


def _input_precision(layer: Any, macs: Sequence[MacCount]) -> Bits:
    widths: dict[Bits, None] = dict.fromkeys(m.input_bits for m in macs if m.direct)
    if not widths:
        return slot_bits(layer, "input")
    if len(widths) == 1:
        return next(iter(widths))
    return ", ".join("-" if bits is None else str(bits) for bits in widths)


def _kind(layer: Any) -> str:
    return type(layer).__qualname__.rpartition(".")[2]
