"""From a model and rules to a plan of what each layer will have; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import keras

from qframe import keras_internals, recipes
from qframe.errors import ArgumentError, NotBuiltError, did_you_mean
from qframe.layers.adapters import adapter_of
from qframe.layers.arguments import module_of
from qframe.layers.attachment import float_class_of
from qframe.layers.slots import ACTIVATIONS, slots_of
from qframe.layers.tree import Site, children, sites
from qframe.passes.entries import Entry, Plan
from qframe.passes.registration import registration_of
from qframe.passes.trials import check_loops, check_optimizer, check_quantizers
from qframe.quantizers import Quantizer
from qframe.quantizers.base import is_stateless
from qframe.recipes.rules import Rule
from qframe.registry.components import WEIGHT_IN_A_LIST


def make_plan(model: Any, rules: Any, strict: bool) -> Plan:
    """Match every layer with the rules and make its quantizers.

    Raises:
        QFrameError: a rule, a quantizer or the model is not right.
    """
    rules = recipes.get(rules).rules
    found = _sites(model)
    parsed = [_interpreted(rule) for rule in rules]
    quantizable = [site for site in found if adapter_of(type(site.layer)) is not None]
    index = {id(site.layer): i for i, site in enumerate(quantizable)}
    matched: list[list[Site]] = [[] for _ in parsed]
    entries = []
    for site in found:
        if adapter_of(type(site.layer)) is None:
            if _has_weights(site.layer):
                entries.append(Entry(site, reason=_no_adapter(site, strict)))
            continue
        cls = float_class_of(site.layer)
        order = index[id(site.layer)], len(quantizable)
        for rule, sites_ in zip(parsed, matched, strict=True):
            if rule.matches(site.path, site.layer, cls, *order):
                sites_.append(site)
                entries.append(_entry(site, rule))
                break
        else:
            entries.append(Entry(site, reason="no rule is about it"))
    _check_use(parsed, matched, quantizable)
    check_quantizers(entries)
    check_optimizer(model, entries)
    check_loops(found, entries)
    return Plan(model, tuple(entries))


def _sites(model: Any) -> list[Site]:
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentError(
            f"quantize takes a Keras model or layer, found {model!r} of type "
            f"{type(model).__name__}."
        )
    found = list(sites(model))
    for site in found:
        known = site.layer is model or adapter_of(type(site.layer)) is not None
        if known and not site.layer.built:
            raise NotBuiltError(
                f"{site.path!r} is not built: it has no weights yet. Call the model on "
                "data first, or write model.build(input_shape)."
            )
    return found


def _has_weights(layer: Any) -> bool:
    own = keras_internals.direct_weights(layer)
    if not own:
        return False
    inner = {id(v) for child in children(layer) for v in child.variables}
    return any(id(v) not in inner for v in own)


def _no_adapter(site: Site, strict: bool) -> str:
    cls = float_class_of(site.layer)
    if cls.__module__.startswith("keras."):
        return "it has no kernel"
    line = registration_of(site.layer)
    if strict:
        raise ArgumentError(
            f"{site.path!r} is a {cls.__name__}, of which qframe does not know the "
            f"weights. Write {line}, or strict=False to leave it in float."
        )
    return f"its weights are not known; write {line}"


def _interpreted(rule: Rule) -> Rule:
    """The rule with objects for its words; wrong ones are errors, used or not."""
    if rule.words is None:
        return rule
    return attrs.evolve(rule, words={k: _make(k, v) for k, v in rule.words.items()})


def _make(key: str, value: Any) -> Any:
    """A new object for each layer where there is state; what has none is shared."""
    if isinstance(value, Quantizer):
        return value if is_stateless(value) else type(value)(**value.parameters)
    if isinstance(value, keras.layers.Layer):
        return type(value).from_config(value.get_config())
    return module_of(key).get(value)


def _prefixes(layer: Any) -> list[str]:
    """The names of the weights that a layer has; a bias under use_bias=False is none."""
    names = []
    for slot in slots_of(layer):
        value = slot.variable
        if value is None:
            continue
        if not hasattr(value, "shape"):
            name = type(layer).__name__
            raise ArgumentError(
                f"{name} is registered with {slot.name}={slot.attribute!r}, and that "
                f"attribute of {layer.name!r} is a {type(value).__name__}, not a weight; "
                f"{WEIGHT_IN_A_LIST}. Then write qframe.register_layer({name}, "
                f"{slot.name}='w')."
            )
        names.append(slot.name)
    return names


def _expanded(rule: Rule, prefixes: Sequence[str]) -> dict[str, Any]:
    """The words of a rule with ``weight_*`` spelled out: every weight but the bias."""
    words: dict[str, Any] = {}
    for key, value in (rule.words or {}).items():
        name, _, kind = key.rpartition("_")
        if name == "weight":
            words |= {f"{p}_{kind}": value for p in prefixes if p != "bias"}
    named = {k: v for k, v in (rule.words or {}).items() if not k.startswith("weight_")}
    return words | named


def _accepts(key: str, prefixes: Sequence[str]) -> bool:
    name, _, kind = key.rpartition("_")
    return name in prefixes or (kind == "quantizer" and name in ACTIVATIONS)


def _entry(site: Site, rule: Rule) -> Entry:
    if rule.words is None:
        return Entry(site, reason="a rule leaves it as it is")
    mode = getattr(site.layer, "quantization_mode", None)
    if mode is not None:
        return Entry(site, reason=f"Keras quantized it to {mode} already")
    prefixes = _prefixes(site.layer)
    words = _expanded(rule, prefixes)
    wanted = [k for k in words if k.endswith("_quantizer") and words[k] is not None]
    weights = [k for k in wanted if k not in ("input_quantizer", "output_quantizer")]
    if weights and not any(_accepts(key, prefixes) for key in weights):
        has = ", ".join(f"{p}_quantizer" for p in prefixes)
        return Entry(site, reason=f"it has no {', '.join(weights)}; it takes {has}")
    _check_constraints(site, words)
    integer = _takes_integers(site.layer)
    settings = {
        key: _make(key, value)
        for key, value in words.items()
        if _accepts(key, prefixes)
        and value is not None
        and not (integer and key == "input_quantizer")
    }
    return (
        Entry(site, settings)
        if settings
        else Entry(site, reason="its rule gives it nothing")
    )


def _check_constraints(site: Site, words: Mapping[str, Any]) -> None:
    """Raise where a weight is computed: there is no variable to constrain."""
    for slot in slots_of(site.layer):
        key, value = f"{slot.name}_constraint", slot.variable
        if words.get(key) is None or value is None or hasattr(value, "assign"):
            continue
        hint = " LoRA is enabled there." if getattr(site.layer, "lora_enabled", 0) else ""
        raise ArgumentError(
            f"{key} has no place on {site.path!r}: its {slot.attribute} is computed and "
            f"no variable.{hint} Give this layer a rule without it."
        )


def _takes_integers(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Embedding)


def _check_use(
    parsed: Sequence[Rule], matched: Sequence[Sequence[Site]], quantizable: Sequence[Site]
) -> None:
    for rule, found in zip(parsed, matched, strict=True):
        if not found:
            paths = [site.path for site in quantizable]
            hint = ""
            if isinstance(rule.selector, str):
                names = [float_class_of(s.layer).__name__ for s in quantizable]
                hint = did_you_mean(rule.selector.removeprefix("re:"), [*paths, *names])
            raise ArgumentError(
                f"the rule for {rule.selector!r} is about no layer, or only about layers "
                f"that an earlier rule takes.{hint} The quantizable layers are: "
                f"{', '.join(paths) or 'none'}."
            )
        for key in rule.words or {}:
            slots = {slot.name for site in found for slot in slots_of(site.layer)}
            slots.add("weight")
            if key.rpartition("_")[0] not in slots:
                known = [f"{slot}_quantizer" for slot in sorted(slots)]
                raise ArgumentError(
                    f"no layer of the rule for {rule.selector!r} takes {key!r}."
                    + did_you_mean(key, known)
                    + f" They take: {', '.join(known)}."
                )
