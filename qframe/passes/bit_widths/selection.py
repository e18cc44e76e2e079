"""The bits that layers may take: measured, allowed, fixed and shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from qframe.errors import ArgumentError, did_you_mean, shown
from qframe.layers.adapters import adapter_of
from qframe.layers.attachment import float_class_of
from qframe.layers.tree import sites
from qframe.passes.bit_widths.candidates import checked_bits
from qframe.recipes.rules import Rule, parse


@attrs.frozen(eq=False)
class Selector:
    """Finds the layers of a table that a path or a selector of rules means."""

    model: Any
    paths: Sequence[str]

    def of(self, selector: Any, argument: str) -> list[int]:
        """The indices of the layers; raises `ArgumentError` if there are none."""
        if isinstance(selector, str) and selector in self.paths:
            return [self.paths.index(selector)]
        try:
            (rule,) = parse([(selector, None)])
        except ArgumentError as error:
            raise self._unknown(selector, argument) from error
        matched = self._of(rule)
        found = [index for index, path in enumerate(self.paths) if path in matched]
        if not found:
            raise self._unknown(selector, argument)
        return found

    def _of(self, rule: Rule) -> set[str]:
        """The paths that a rule matches, as in `qframe.quantize`."""
        every = [s for s in sites(self.model) if adapter_of(type(s.layer)) is not None]
        return {
            site.path
            for index, site in enumerate(every)
            if rule.matches(
                site.path, site.layer, float_class_of(site.layer), index, len(every)
            )
        }

    def _unknown(self, selector: Any, argument: str) -> ArgumentError:
        hint = did_you_mean(selector, self.paths) if isinstance(selector, str) else ""
        return ArgumentError(
            f"{argument} selects {shown(selector)}, which is not a layer with losses in "
            f"the table.{hint} It has: {', '.join(self.paths)}. Write a path, 're:<regex "
            "on the path>', a class, qframe.first or qframe.last."
        )


def allowed_bits(
    measured: Sequence[Sequence[int]], among: Any, fixed: Any, selector: Selector
) -> list[set[int]]:
    """The bits that each layer may take.

    Raises:
        ArgumentError: a layer has none, or bits are not in the table.
    """
    allowed = [set(bits) for bits in measured]
    if among is not None:
        wanted = set(checked_bits(among))
        known: set[int] = set().union(*allowed)
        if not wanted <= known:
            raise _not_measured("among", wanted - known, known)
        allowed = [bits & wanted for bits in allowed]
    if fixed is not None and not isinstance(fixed, Mapping):
        raise ArgumentError(
            f"fixed has bits by layer, found {shown(fixed)}. Write for example "
            "fixed={qframe.first: 8, qframe.last: 8}."
        )
    for which, bits in (fixed or {}).items():
        for index in selector.of(which, "fixed"):
            wanted, known = set(checked_bits(bits)), set(measured[index])
            if not wanted <= known:
                raise _not_measured(f"fixed[{shown(which)}]", wanted - known, known)
            allowed[index] = wanted
    for path, bits, finite in zip(selector.paths, allowed, measured, strict=True):
        if not bits:
            losses = f"those for {_listed(finite)} bits" if finite else "none"
            asked = "" if among is None else f", and among={shown(among)} has none of them"
            raise ArgumentError(
                f"no bits are left for {path!r}: of finite losses the table has {losses}"
                f"{asked}. Allow more, or measure others: qframe.sensitivity(model, data, "
                "bits=...)."
            )
    return allowed


def _not_measured(what: str, missing: set[int], known: set[int]) -> ArgumentError:
    return ArgumentError(
        f"{what} has {_listed(missing)} bits, and the table has losses for "
        f"{_listed(known) or 'none'}. Measure them: qframe.sensitivity(model, data, "
        "bits=...)."
    )


def _listed(bits: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(bits)))


def groups_of(groups: Any, selector: Selector) -> list[list[int]]:
    """The indices of the layers that share their bits, each layer in one group."""
    group_of = list(range(len(selector.paths)))
    if isinstance(groups, (str, Mapping)) or not isinstance(groups, Iterable):
        raise _no_groups(groups)
    for group in groups:
        if isinstance(group, (str, Mapping)) or not isinstance(group, Iterable):
            raise _no_groups(groups)
        together = {i for which in group for i in selector.of(which, "groups")}
        numbers = {group_of[i] for i in together}
        group_of = [min(numbers) if number in numbers else number for number in group_of]
    members: dict[int, list[int]] = {}
    for index, number in enumerate(group_of):
        members.setdefault(number, []).append(index)
    return list(members.values())


def _no_groups(groups: Any) -> ArgumentError:
    return ArgumentError(
        f"groups are lists of layers that share their bits, found {shown(groups)}. Write "
        "for example groups=[['block1/conv', 'block2/conv']]."
    )
