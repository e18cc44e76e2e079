"""The layers whose bits can be chosen, and their quantizers with each number of bits."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import attrs

from qframe import quantizers, recipes
from qframe.errors import ArgumentError, QFrameError, shown
from qframe.layers.adapters import adapter_of
from qframe.layers.attachment import float_class_of
from qframe.layers.slots import Slot, quantizer_for_slot, slots_of
from qframe.layers.tree import sites
from qframe.passes.planning import make_plan
from qframe.passes.plans import LayerPlan
from qframe.passes.validation import check_quantizers
from qframe.quantizers import Quantizer
from qframe.quantizers.rounded import Rounded
from qframe.recipes.rules import Rule
from qframe.registry.identifier import Identifier

# The recipe for the weights of layers that are in float. A plugin offers it.
_RECIPE = "integer_weights"
WEIGHT_SETTING = "weight_quantizer"
_FEWEST, _MOST = 1, 16


@attrs.frozen
class Candidate:
    """A layer whose bits can be chosen, or the reason why they cannot.

    Args:
        path: its path.
        layer: the layer.
        slots: the slots of its weights, without biases.
        quantizers: for each number of bits a quantizer for each of the slots.
        tied: the paths of other layers with the same variables.
        reason: why its bits cannot be chosen.
    """

    path: str
    layer: Any
    slots: tuple[Slot, ...] = ()
    quantizers: Mapping[int, Sequence[Quantizer]] = attrs.field(factory=dict)
    tied: tuple[str, ...] = ()
    reason: str = ""

    @property
    def kind(self) -> str:
        """The name of the class of the layer."""
        return str(float_class_of(self.layer).__name__)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights by attribute."""
        return {s.attribute: tuple(map(int, s.variable.shape)) for s in self.slots}

    def settings(self, bits: int) -> dict[str, str]:
        """The settings of `qframe.quantize` for so many bits."""
        pairs = zip(self.slots, self.quantizers[bits], strict=True)
        return {slot.key: str(quantizer.identifier) for slot, quantizer in pairs}


def checked_bits(bits: Any) -> tuple[int, ...]:
    """Distinct numbers of bits, ascending; raises `ArgumentError` for something else."""
    widths = list(bits) if _is_listed(bits) else [bits]
    if not widths or not all(_is_width(b) for b in widths):
        raise ArgumentError(
            f"bits are integers from {_FEWEST} to {_MOST}, found {shown(bits)}. Write for "
            "example bits=(2, 3, 4, 6, 8)."
        )
    return tuple(sorted({int(b) for b in widths}))


def _is_width(bits: Any) -> bool:
    whole = isinstance(bits, Integral) and not isinstance(bits, bool)
    return whole and _FEWEST <= bits <= _MOST


def _is_listed(bits: Any) -> bool:
    return hasattr(bits, "__iter__") and not isinstance(bits, (str, bytes, Mapping))


def candidates_of(
    model: Any, bits: Sequence[int], quantizer: Any = None
) -> list[Candidate]:
    """Every layer with weights, in call order, with its quantizers.

    Args:
        model: a built model.
        bits: the numbers of bits.
        quantizer: for every layer. Default None: that of the layer, else that of a recipe.

    Raises:
        QFrameError: a quantizer does not take these bits, or does not fit a weight; or the
            model has no such layer.
    """
    choices = _Choices(bits, None if quantizer is None else _given(quantizer, bits))
    layers = list(sites(model))
    if not any(kernel_slots(site.layer) for site in layers):
        raise ArgumentError(
            f"{model.name!r} has no layer with a kernel whose bits could be chosen. "
            "qframe.register_layer names the weights of a layer class of yours."
        )
    paths = collections.Counter(site.path for site in layers)
    reasons = _reasons(model)
    candidates: dict[Any, Candidate] = {}
    plans = []
    for site in layers:
        if site.path not in reasons:
            continue
        slots = tuple(attrs.evolve(s, path=site.path) for s in kernel_slots(site.layer))
        reason = reasons[site.path] or _fault(slots, paths[site.path])
        key: Any = tuple(id(slot.variable) for slot in slots) if not reason else site.path
        if key in candidates:
            first = candidates[key]
            candidates[key] = attrs.evolve(first, tied=(*first.tied, site.path))
            continue
        chosen: dict[int, list[Quantizer]] = {}
        if not reason:
            chosen, reason = choices.of_slots(slots)
        keys = [slot.key for slot in slots]
        plans += [
            LayerPlan(site, dict(zip(keys, of_slots, strict=True)))
            for of_slots in chosen.values()
        ]
        candidates[key] = Candidate(site.path, site.layer, slots, chosen, reason=reason)
    # The errors of `qframe.quantize`, without those of optimizers, which no run needs.
    check_quantizers(plans)
    return list(candidates.values())


@attrs.define
class _Choices:
    """The quantizers of slots by bits."""

    bits: Sequence[int]
    given: Mapping[int, Quantizer] | None
    _default: Mapping[int, Quantizer] | None = None

    def of_slots(self, slots: Sequence[Slot]) -> tuple[dict[int, list[Quantizer]], str]:
        """The quantizers of some slots, or the reason why there are none."""
        chosen: dict[int, list[Quantizer]] = {width: [] for width in self.bits}
        for slot in slots:
            if isinstance(slot.quantizer, Rounded):
                # The bias has the correction for these bits, too.
                return {}, (
                    f"its {slot.attribute} was rounded for its bits; measure before "
                    "qframe.round_weights"
                )
            of_slot = self._of_slot(slot)
            if not of_slot:
                return {}, (
                    f"{slot.key}={slot.quantizer!r} has no parameter for its bits; name "
                    "another with quantizer="
                )
            for width in self.bits:
                # Each slot has a separate one, for its shape and its channels.
                chosen[width].append(quantizer_for_slot(slot.name, of_slot[width]))
        return chosen, ""

    def _of_slot(self, slot: Slot) -> dict[int, Quantizer]:
        if self.given is None and slot.quantizer is not None:
            name = bits_parameter(slot.quantizer)
            if name is None:
                return {}
            own = f"{slot.path!r}, {slot.key}"
            return {b: _with(slot.quantizer, name, b, own) for b in self.bits}
        shared = self.given
        if shared is None:
            shared = self._default = self._default or _default(self.bits)
        return {b: _copy(quantizer, {}) for b, quantizer in shared.items()}


def _fault(slots: Sequence[Slot], layers: int) -> str:
    """Why a layer cannot take part, with the number of layers of its path."""
    if not slots:
        return "it has no kernel"
    if layers > 1:
        return "another layer has the same path; give each layer another name"
    for slot in slots:
        if not hasattr(slot.variable, "assign"):
            return f"its {slot.attribute} is computed, as with LoRA, and not a variable"
    return ""


def kernel_slots(layer: Any) -> list[Slot]:
    """The slots of the weights of a layer that have channels, which a bias has not."""
    return [
        slot
        for slot in (slots_of(layer) if adapter_of(type(layer)) is not None else ())
        if slot.weight is not None
        and slot.weight.channel_axis is not None
        and slot.variable is not None
    ]


def _reasons(model: Any) -> dict[str, str]:
    """Why `qframe.quantize` leaves a layer with weights in float, or "", by path."""
    # No layer is given a quantizer, so that none is tried.
    rules = [Rule(None, {WEIGHT_SETTING: None})]
    planned = make_plan(model, rules, strict=False)
    nothing = "its rule gives it nothing"
    return {
        plan.site.path: "" if plan.reason == nothing else plan.reason
        for plan in planned.layers
        if plan.reason != "it has no weights"
    }


def bits_parameter(quantizer: Any) -> str | None:
    """The parameter that is the precision of a quantizer; None without one."""
    precision = getattr(quantizer, "precision", None)
    if not isinstance(quantizer, Quantizer) or precision is None:
        return None
    parameters = quantizer.parameters
    # Others may have the same value by chance.
    for name in sorted(parameters, key=lambda n: "bit" not in n):
        if type(parameters[name]) is not int or parameters[name] != precision:
            continue
        for width in (precision + 1, precision - 1):
            try:
                changed = _copy(quantizer, {name: width})
            except QFrameError:
                continue
            if changed.precision == width:
                return name
    return None


def _copy(quantizer: Quantizer, changes: Mapping[str, Any]) -> Quantizer:
    return type(quantizer)(**{**quantizer.parameters, **changes})


def _with(quantizer: Quantizer, name: str, bits: int, place: str) -> Quantizer:
    try:
        changed = _copy(quantizer, {name: bits})
    except QFrameError as error:
        raise ArgumentError(
            f"{place} cannot be measured in {bits} bits: {error} Name other bits, or "
            "another quantizer with quantizer=."
        ) from error
    if changed.precision != bits:
        raise ArgumentError(
            f"{place} cannot be measured in {bits} bits: {changed!r} has "
            f"{changed.precision}. Name another quantizer with quantizer=."
        )
    return changed


def _given(quantizer: Any, bits: Sequence[int]) -> dict[int, Quantizer]:
    """The quantizer of the user, with each number of bits."""
    found = quantizers.get(quantizer)
    name = bits_parameter(found)
    if name is None:
        raise ArgumentError(
            f"quantizer={shown(quantizer)} has no parameter for its bits. Write for "
            "example quantizer=\"integer(granularity='channel')\", into which the bits go."
        )
    return {b: _with(found, name, b, f"quantizer={found!r}") for b in bits}


def _default(bits: Sequence[int]) -> dict[int, Quantizer]:
    """The quantizer of a recipe for weights, with each number of bits."""
    found = {}
    for width in bits:
        try:
            recipe = recipes.get(str(Identifier(_RECIPE, arguments={"bits": width})))
        except ArgumentError as error:
            raise ArgumentError(
                f"weights in float cannot be measured in {width} bits: {error} Name other "
                "bits, or a quantizer that takes them with quantizer=."
            ) from error
        settings = recipe.rules[0].settings or {}
        found[width] = quantizers.get(settings[WEIGHT_SETTING])
    return found
