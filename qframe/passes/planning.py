"""Plan the settings of each layer of a model from rules, without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import keras

from qframe import keras_internals, recipes
from qframe.errors import ArgumentError, NotBuiltError, did_you_mean
from qframe.layers.adapters import ADAPTERS, adapter_of, is_activation, is_tied
from qframe.layers.arguments import module_of
from qframe.layers.attachment import float_class_of
from qframe.layers.slots import filled_slots, slots_of
from qframe.layers.tree import Site, children, sites
from qframe.passes.integer_edges import EDGE, Planned, edge_plans
from qframe.passes.plans import LayerPlan, ModelPlan
from qframe.passes.registration import registration_of
from qframe.passes.validation import check_loops, check_optimizer, check_quantizers
from qframe.quantizers import Quantizer
from qframe.quantizers.base import is_stateless
from qframe.recipes.rules import Position, Rule
from qframe.registry.components import WEIGHT_IN_A_LIST


def make_plan(model: Any, rules: Any, strict: bool) -> ModelPlan:
    """Match every layer with the rules and construct its quantizers.

    Raises:
        QFrameError: a rule or a quantizer is wrong, or the model is not built.
    """
    rules = [_constructed(rule) for rule in recipes.get(rules).rules]
    all_sites = _built_sites(model)
    quantizable = [site for site in all_sites if adapter_of(type(site.layer)) is not None]
    index = {id(site.layer): i for i, site in enumerate(quantizable)}
    has_edges = any(EDGE in (rule.settings or {}) for rule in rules)
    matched: list[list[Site]] = [[] for _ in rules]
    planned = []
    for site in all_sites:
        layer, cls = site.layer, float_class_of(site.layer)
        has_adapter = adapter_of(type(layer)) is not None
        rule = None
        for each, matches in zip(rules, matched, strict=True):
            order = index.get(id(layer), -1), len(quantizable)
            # Layers without weights have no position, and edges alone.
            if not has_adapter and (not has_edges or isinstance(each.selector, Position)):
                continue
            if each.matches(site.path, layer, cls, *order):
                rule = each
                if has_adapter or EDGE in (each.settings or {}):
                    matches.append(site)
                break
        planned.append(Planned(_planned(site, rule, has_adapter, strict), rule))
    _check_use(rules, matched, quantizable)
    notes: tuple[str, ...] = ()
    if has_edges:
        planned, notes = edge_plans(model, planned, _construct)
    plans = [each.plan for each in planned if each.plan.settings or each.plan.reason]
    check_quantizers(plans)
    check_optimizer(model, plans)
    check_loops(all_sites, plans)
    return ModelPlan(model, tuple(plans), notes)


def _planned(site: Site, rule: Rule | None, has_adapter: bool, strict: bool) -> LayerPlan:
    """Return the plan of a layer, without a reason where the report has no row for it."""
    if has_adapter and rule is not None:
        return _layer_plan(site, rule)
    if has_adapter:
        return LayerPlan(site, reason="no rule selects it")
    if isinstance(site.layer, Quantizer):
        return LayerPlan(site)
    if _has_weights(site.layer):
        return LayerPlan(site, reason=_no_adapter(site, strict))
    return LayerPlan(site, reason="it has no weights" if filled_slots(site.layer) else "")


def _built_sites(model: Any) -> list[Site]:
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentError(
            f"quantize takes a Keras model or layer, found {model!r} of type "
            f"{type(model).__name__}."
        )
    all_sites = list(sites(model))
    for site in all_sites:
        known = site.layer is model or adapter_of(type(site.layer)) is not None
        if known and not site.layer.built:
            raise NotBuiltError(
                f"{site.path!r} is not built: it has no weights yet. Call the model on "
                "data first, or write model.build(input_shape)."
            )
    return all_sites


def _has_weights(layer: Any) -> bool:
    direct = keras_internals.direct_weights(layer)
    if not direct:
        return False
    inner = {id(v) for child in children(layer) for v in child.variables}
    return any(id(v) not in inner for v in direct)


def _no_adapter(site: Site, strict: bool) -> str:
    cls = float_class_of(site.layer)
    if keras_internals.is_of_keras(cls):
        return "it has no kernel"
    line = registration_of(site.layer)
    if strict:
        raise ArgumentError(
            f"{site.path!r} is a {cls.__name__}, of which qframe does not know the "
            f"weights. Write {line}, or strict=False to leave it in float."
        )
    return f"its weights are not known; write {line}"


def _constructed(rule: Rule) -> Rule:
    """Construct the objects of a rule, which raises for wrong settings, used or not."""
    if rule.settings is None:
        return rule
    return attrs.evolve(
        rule, settings={k: _construct(k, v) for k, v in rule.settings.items()}
    )


def _construct(key: str, value: Any) -> Any:
    """Return a new object for a setting, or the same one where it has no state."""
    if isinstance(value, Quantizer):
        return value if is_stateless(value) else type(value)(**value.parameters)
    if isinstance(value, keras.layers.Layer):
        return type(value).from_config(value.get_config())
    return module_of(key).get(value)


def _prefixes(layer: Any) -> list[str]:
    """Return the names of the weights of a layer, without those that are None."""
    names = []
    name = type(layer).__name__
    # A layer of Keras may lack one, as a tied embedding lacks the second kernel.
    is_registered = adapter_of(type(layer)) not in ADAPTERS.values()
    for slot in slots_of(layer):
        value = slot.variable
        is_absent = not hasattr(layer, slot.attribute) and not slot.is_activation
        if is_absent and is_registered:
            raise ArgumentError(
                f"{name} is registered with {slot.name}={slot.attribute!r}, and "
                f"{layer.name!r} has no attribute {slot.attribute!r}. Write "
                f"qframe.register_layer({name}, {slot.name}='<attribute>'), or set it to "
                "None in a layer without that weight."
            )
        if value is None:
            continue
        if not hasattr(value, "shape"):
            raise ArgumentError(
                f"{name} is registered with {slot.name}={slot.attribute!r}, and that "
                f"attribute of {layer.name!r} is a {type(value).__name__}, not a weight; "
                f"{WEIGHT_IN_A_LIST}. Then write qframe.register_layer({name}, "
                f"{slot.name}='w')."
            )
        names.append(slot.name)
    return names


def _expanded(rule: Rule, prefixes: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a rule with ``weight_*`` for every weight except the bias."""
    settings: dict[str, Any] = {}
    by_slot: dict[str, Any] = {}
    for key, value in (rule.settings or {}).items():
        name, _, kind = key.rpartition("_")
        if name == "weight":
            settings |= {f"{p}_{kind}": value for p in prefixes if p != "bias"}
        else:
            by_slot[key] = value
    return settings | by_slot


def _accepts(key: str, prefixes: Sequence[str], activations: Sequence[str]) -> bool:
    name, _, kind = key.rpartition("_")
    return name in prefixes or (kind == "quantizer" and name in activations)


def _layer_plan(site: Site, rule: Rule) -> LayerPlan:
    if rule.settings is None:
        return LayerPlan(site, reason="a rule leaves it as it is")
    mode = getattr(site.layer, "quantization_mode", None)
    if mode is not None:
        return LayerPlan(site, reason=f"Keras quantized it to {mode} already")
    prefixes = _prefixes(site.layer)
    settings = _expanded(rule, prefixes)
    slots = prefixes, [slot.name for slot in slots_of(site.layer) if slot.is_activation]
    wanted = [k for k in settings if k.endswith("_quantizer") and settings[k] is not None]
    names = {key: key.removesuffix("_quantizer") for key in wanted}
    weights = [k for k in wanted if k != EDGE and not is_activation(names[k])]
    if weights and not any(_accepts(key, *slots) for key in weights):
        taken = ", ".join(f"{p}_quantizer" for p in prefixes)
        return LayerPlan(site, reason=f"it has no {', '.join(weights)}; it takes {taken}")
    _check_constraints(site, settings)
    # The inputs of an Embedding are integers.
    embedding = isinstance(site.layer, keras.layers.Embedding)
    settings = {
        key: _construct(key, value)
        for key, value in settings.items()
        if _accepts(key, *slots)
        and value is not None
        and not (embedding and key == "input_quantizer")
    }
    if not settings:
        return LayerPlan(site, reason="its rule gives it nothing")
    is_remarkable = "embeddings_quantizer" in settings and is_tied(site.layer)
    return LayerPlan(site, settings, _TIED if is_remarkable else "")


_TIED = "it is tied: it looks up these rows, and multiplies with them too"


def _check_constraints(site: Site, settings: Mapping[str, Any]) -> None:
    """Raise for a constraint on a weight that is computed, not a variable."""
    for slot in slots_of(site.layer):
        key, value = f"{slot.name}_constraint", slot.variable
        if settings.get(key) is None or value is None or hasattr(value, "assign"):
            continue
        hint = " LoRA is enabled there." if getattr(site.layer, "lora_enabled", 0) else ""
        raise ArgumentError(
            f"{key} has no place on {site.path!r}: its {slot.attribute} is computed and "
            f"not a variable.{hint} Give this layer a rule without it."
        )


def _check_use(
    rules: Sequence[Rule], matched: Sequence[Sequence[Site]], quantizable: Sequence[Site]
) -> None:
    for rule, matches in zip(rules, matched, strict=True):
        if not matches:
            paths = [site.path for site in quantizable]
            hint = ""
            if isinstance(rule.selector, str):
                names = [float_class_of(s.layer).__name__ for s in quantizable]
                hint = did_you_mean(rule.selector.removeprefix("re:"), [*paths, *names])
            raise ArgumentError(
                f"the rule for {rule.selector!r} matches no layer, or only layers "
                f"that an earlier rule takes.{hint} The quantizable layers are: "
                f"{', '.join(paths) or 'none'}."
            )
        for key in rule.settings or {}:
            slots = {slot.name for site in matches for slot in slots_of(site.layer)}
            slots |= {"weight", "edge"}
            if EDGE in (rule.settings or {}):
                # A rule for all tensors of a model, which may have no bias.
                slots.add("bias")
            if key.rpartition("_")[0] not in slots:
                known = [f"{slot}_quantizer" for slot in sorted(slots)]
                raise ArgumentError(
                    f"no layer of the rule for {rule.selector!r} takes {key!r}."
                    + did_you_mean(key, known)
                    + f" They take: {', '.join(known)}."
                )
