"""From a model to its profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, NotBuiltError
from qframe.models.calls import Call, multiply
from qframe.models.kernels import Product, no_macs
from qframe.models.macs import counter_of, products
from qframe.models.model_profile import ModelProfile
from qframe.models.notes import notes_of
from qframe.models.parts import Row, is_built, rows_of
from qframe.models.precision import Bits, StoredBits, slot_bits
from qframe.models.records import LayerProfile, MacProfile, WeightProfile
from qframe.models.trace import calls_of


def profile_of(model: Any) -> ModelProfile:
    """The profile of a built model or layer."""
    rows = _rows_of_built(model)
    calls = calls_of(model)
    weights = _Weights(model)
    layers = [_layer(row, calls.get(id(row.layer), []), weights) for row in rows]
    # Variables that a model holds beside the layers of its graph.
    rest = weights.of(model, model.weights)
    if rest:
        macs = (MacProfile(None, None),)
        kind = _kind(model)
        layers.append(LayerProfile(model.name, kind, None, (None,), rest, macs))
    notes = tuple(note.text for note in notes_of(model))
    return ModelProfile(model.name, tuple(layers), notes)


def _rows_of_built(model: Any) -> list[Row]:
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentError(
            "a profile needs a Keras model or layer, found "
            f"{model!r} of type {type(model).__name__}. To read one from a file, write "
            "qframe.load_model('model.keras')."
        )
    rows = rows_of(model) if model.built else []
    parts = [row for row in rows if isinstance(row.layer, keras.layers.Layer)]
    # Keras calls a model built whose layers it could not build.
    if not model.built or (not model.weights and not all(r.layer.built for r in parts)):
        raise NotBuiltError(
            f"{model.name!r} was asked for its profile and has no weights yet. Call it "
            f"on data first, or write {model.name}.build(input_shape) with the batch, "
            "such as (None, 28, 28, 1)."
        )
    return rows


class _Weights:
    """Hands out each variable of a model once, to the first layer that has it."""

    def __init__(self, model: Any) -> None:
        self._trainable = {id(variable) for variable in model.trainable_weights}
        self._taken: set[int] = set()

    def of(self, layer: Any, variables: Iterable[Any]) -> tuple[WeightProfile, ...]:
        fused = _fused_away(layer)
        stored = StoredBits(layer)
        found = []
        for variable in variables:
            if id(variable) in self._taken:
                continue
            self._taken.add(id(variable))
            if id(variable) not in fused:
                shape = tuple(int(dim) for dim in variable.shape)
                trainable = id(variable) in self._trainable
                bits, scales = stored.of(variable), stored.of_scales(variable)
                words = variable.name, shape, bits, trainable, scales
                found.append(WeightProfile(*words))
        return tuple(found)


def _fused_away(layer: Any) -> set[int]:
    """The variables of a batch normalization that inference needs no room for.

    It computes a * x + b: mean and beta go into b, variance and gamma into a.
    """
    if not isinstance(layer, keras.layers.BatchNormalization):
        return set()
    pairs = [(layer.beta, layer.moving_mean), (layer.gamma, layer.moving_variance)]
    return {
        id(first) for first, second in pairs if first is not None and second is not None
    }


def _layer(row: Row, calls: Sequence[Call], weights: _Weights) -> LayerProfile:
    layer = row.layer
    counted = [(call, _products(row, call)) for call in calls or [Call()]]
    shapes = dict.fromkeys(shape for call in calls for shape in call.outputs)
    return LayerProfile(
        name=row.path,
        kind=_kind(layer),
        input_precision=_input_precision(layer, [p for _, some in counted for p in some]),
        output_shapes=tuple(shapes) or (None,),
        weights=weights.of(layer, row.weights) if row.weights else (),
        macs=_macs(counted),
        built=_is_built(row),
    )


def _is_built(row: Row) -> bool:
    """Whether all variables are there, those of a quantizer in an Activation too."""
    if not isinstance(row.layer, keras.layers.Layer):
        return True  # an operation
    parts = () if row.composite else keras_internals.sublayers(row.layer)
    return row.layer.built and all(map(is_built, parts))


def _products(row: Row, call: Call) -> list[Product]:
    # What code does with weights of its own, beside the layers it calls, is not known;
    # nor what a layer will be that was not built.
    counter = counter_of(row.layer)
    built = getattr(row.layer, "built", True)
    if (row.composite and counter is None) or (not built and counter is not no_macs):
        return [Product()]
    return list(products(row.layer, call))


def _macs(counted: Sequence[tuple[Call, Sequence[Product]]]) -> tuple[MacProfile, ...]:
    """The products by precision; the sum with one that is not known is not known."""
    sums: dict[int | None, int | None] = {}
    for call, some in counted:
        for product in some:
            count = multiply(product.count, call.times)
            before = sums.get(product.precision, 0)
            if count is None or before is None:
                sums[product.precision] = None
            else:
                sums[product.precision] = before + count
    order = sorted(sums, key=lambda precision: (precision is None, precision or 0))
    return tuple(MacProfile(precision, sums[precision]) for precision in order)


def _input_precision(layer: Any, all_products: Sequence[Product]) -> Bits:
    found: dict[Bits, None] = dict.fromkeys(p.input_bits for p in all_products if p.direct)
    if not found:
        return slot_bits(layer, "input")
    if len(found) == 1:
        return next(iter(found))
    return ", ".join("-" if bits is None else str(bits) for bits in found)


def _kind(layer: Any) -> str:
    return type(layer).__qualname__.rpartition(".")[2]
