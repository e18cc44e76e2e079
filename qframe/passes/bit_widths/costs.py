"""The cost of each layer by its bits, and of the rest of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs

from qframe.errors import ArgumentError, QFrameError, shown
from qframe.layers.slots import Slot, quantizer_for_slot
from qframe.models import profile
from qframe.models.precision import StoredBits, dtype_bits, quantizer_bits
from qframe.models.profiling import products_of_weights
from qframe.models.records import FLOAT_BITS
from qframe.quantizers import Quantizer
from qframe.validation import finite_number

Costs = Sequence[Mapping[int, float]]


@attrs.frozen(eq=False)
class Layer:
    """A layer of a table, in a model.

    Args:
        path: its path.
        slots: the slots of its weights, those of tied layers after them.
        quantizers: for each number of bits a quantizer for each slot.
    """

    path: str
    slots: Sequence[Slot]
    quantizers: Mapping[int, Sequence[Quantizer]]

    @property
    def numbers(self) -> int:
        """How many numbers its weights hold."""
        return sum(math.prod(s.variable.shape) for s in _distinct(self.slots))


@attrs.frozen(eq=False)
class Budget:
    """What is limited, and its costs, which are counted in parts of its unit.

    Args:
        name: the argument that limits it.
        unit: its unit, for texts.
        costs: the cost of each layer by its bits.
        limit: the most, in its unit; None for the whole front.
        parts: how many parts a unit has.
        rest: the cost of everything else.
    """

    name: str
    unit: str
    costs: Costs
    limit: float | None
    parts: int = 1
    rest: int = 0

    @property
    def room(self) -> Fraction:
        """What the limit leaves for the layers."""
        return Fraction(self.limit or 0) * self.parts - self.rest

    def total(self, of_layers: Fraction) -> Fraction:
        """The whole cost in its unit."""
        return (of_layers + self.rest) / self.parts

    def text(self, of_layers: Fraction) -> str:
        """The whole cost, rounded up so that it can be a limit."""
        cost = self.total(of_layers)
        if cost.denominator == 1 or self.unit in ("bytes", "bit operations"):
            number = str(math.ceil(cost))
        elif self.unit:
            number = f"{math.ceil(cost * 10**6) / 10**6:.10g}"
        else:
            number = repr(math.nextafter(float(cost), math.inf))
        return f"{number} {self.unit}".rstrip()


def budget_of(
    model: Any,
    layers: Sequence[Layer],
    limits: Mapping[str, Any],
    cost: Callable[[str, int], float] | None,
) -> Budget:
    """What the arguments of `qframe.allocate` limit.

    Args:
        model: the model.
        layers: its layers with losses.
        limits: ``size``, ``bits``, ``bops`` and ``budget``, or None each.
        cost: a function (path, bits) -> cost.

    Raises:
        ArgumentError: they are not one budget, or it is not a positive number.
    """
    given = [name for name, value in limits.items() if value is not None]
    if len(given) > 1:
        raise ArgumentError(
            f"allocate takes one budget, found {' and '.join(given)}. Leave the others out."
        )
    name = given[0] if given else "size"
    if cost is not None:
        if given not in ([], ["budget"]):
            raise ArgumentError(
                f"cost= goes with budget=, found {name}=. Write budget= for the sum of the "
                "costs."
            )
        if not callable(cost):
            raise ArgumentError(f"cost is a function (path, bits), found {shown(cost)}.")
    elif name == "budget":
        raise ArgumentError(
            "budget= limits the sum of cost=, which is missing. Write cost=, a function "
            "(path, bits), or size=, bits= or bops=."
        )
    limit = finite_number("allocate", name, limits[name]) if given else None
    if cost is not None:
        return Budget("cost", "", of_function(cost, layers), limit)
    if name == "bits":
        count = sum(layer.numbers for layer in layers)
        return Budget(name, "bits a number", numbers(layers), limit, count)
    if name == "bops":
        return Budget(name, "bit operations", bit_operations(model, layers), limit)
    of_layers, rest = sizes(model, layers)
    return Budget(name, "bytes", of_layers, limit, 8, rest)


def sizes(model: Any, layers: Sequence[Layer]) -> tuple[Costs, int]:
    """The sizes of the weights in bits, and that of everything else in the model.

    They add up to what `qframe.models.profile` counts after `qframe.quantize`.

    Raises:
        QFrameError: the size of a part of the model is not known.
    """
    total = profile(model).memory
    if total is None:
        raise QFrameError(
            f"the size of {model.name!r} is not known, since a layer of it is not built. "
            "Call it once with a batch."
        )
    now = sum(_stored_now(slot) for layer in layers for slot in _distinct(layer.slots))
    return [
        {
            bits: sum(
                _stored(slot, quantizer)
                for slot, quantizer in zip(layer.slots, chosen, strict=False)
            )
            for bits, chosen in layer.quantizers.items()
        }
        for layer in layers
    ], total - now


def _distinct(slots: Sequence[Slot]) -> list[Slot]:
    """The slots of different variables; tied layers have the same ones."""
    return list({id(slot.variable): slot for slot in reversed(slots)}.values())


def _stored_now(slot: Slot) -> int:
    stored, variable = StoredBits(slot.layer), slot.variable
    bits = stored.of(variable) * math.prod(variable.shape) + stored.of_scales(variable)
    return bits + _bits_of_state(slot.quantizer)


def _stored(slot: Slot, quantizer: Quantizer) -> int:
    """The bits that a weight takes with a quantizer."""
    shape = tuple(int(size) for size in slot.variable.shape)
    width = quantizer_bits(quantizer)
    if not isinstance(width, int):
        width = dtype_bits(slot.variable.dtype)
    scales = quantizer.bits_of_scales(shape, slot.channel_axis)
    quantizer = quantizer_for_slot(slot.name, quantizer)
    if not quantizer.built:
        quantizer.channel_axis = slot.channel_axis
        quantizer.build(shape)
    return width * math.prod(shape) + scales + _bits_of_state(quantizer)


def _bits_of_state(quantizer: Any) -> int:
    """The bits of the variables of a quantizer that are deployed, such as a step."""
    folded = {id(v) for v in getattr(quantizer, "folded_variables", ())}
    variables = [v for v in getattr(quantizer, "weights", ()) if id(v) not in folded]
    return sum(dtype_bits(v.dtype) * math.prod(v.shape) for v in variables)


def numbers(layers: Sequence[Layer]) -> Costs:
    """The bits of the numbers alone."""
    return [{b: b * layer.numbers for b in layer.quantizers} for layer in layers]


def bit_operations(model: Any, layers: Sequence[Layer]) -> Costs:
    """The products of one sample, times the bits of both factors.

    Raises:
        ArgumentError: the products of a layer are not known.
    """
    products = products_of_weights(model)
    costs = []
    for layer in layers:
        total = 0
        for slot in _distinct(layer.slots):
            for count, bits in products.get(id(slot.variable), ()):
                if count is None:
                    raise ArgumentError(
                        f"bops limits products, and those of {layer.path!r} are not known: "
                        "its call is code, or a size is open. Limit size= or bits=, or "
                        "give a cost=."
                    )
                total += count * (bits if isinstance(bits, int) else FLOAT_BITS)
        costs.append({b: b * total for b in layer.quantizers})
    return costs


def of_function(
    cost: Callable[[str, int], float], layers: Sequence[Layer]
) -> list[dict[int, float]]:
    """The costs that a function gives.

    Raises:
        ArgumentError: one of them is not a finite number.
    """
    costs = []
    for layer in layers:
        of_layer = {}
        for bits in layer.quantizers:
            value = cost(layer.path, bits)
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise ArgumentError(
                    f"cost({layer.path!r}, {bits}) is to be a number, found {shown(value)}."
                )
            of_layer[bits] = number
        costs.append(of_layer)
    return costs
