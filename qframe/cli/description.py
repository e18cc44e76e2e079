"""What ``qframe show`` says about a component."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from qframe import recipes
from qframe.cli.backend import start_backend
from qframe.errors import AmbiguousNameError, ArgumentError, UnknownNameError, did_you_mean
from qframe.registry.components import AdapterComponent, Component
from qframe.registry.configurable import arguments_of, construct, named_parameters
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

if TYPE_CHECKING:
    from rich.console import Console


def find(text: str, kinds: Sequence[str]) -> tuple[Component, Mapping[str, Any]]:
    """The component of one of these kinds that an identifier names."""
    identifier = Identifier.parse(text, positional=True)
    found: list[Component] = []
    errors: dict[str, UnknownNameError] = {}
    for kind in kinds:
        try:
            found.append(registry.resolve(kind, identifier))
        except UnknownNameError as error:
            errors[kind] = error
    if len(found) > 1:
        raise AmbiguousNameError(
            f"{text!r} is the name of a {' and of a '.join(c.kind for c in found)}. "
            f"Add --kind {' or --kind '.join(c.kind for c in found)}."
        )
    if not found:
        raise errors[max(kinds, key=lambda kind: _resembles(identifier.name, kind))]
    return found[0], arguments_of(found[0], identifier)


def _resembles(name: str, kind: str) -> bool:
    """Whether a component of this kind has a similar name."""
    known = [known for c in registry.components(kind) for known in c.names]
    return bool(did_you_mean(name, known))


@attrs.frozen
class Description:
    """All that is known of a component, as it is with some arguments.

    Args:
        component: what is described.
        rows: what is known of it, by label.
        documentation: what its author wrote.
        recipe: of a recipe, its rules in TOML.
    """

    component: Component
    rows: Mapping[str, str]
    documentation: str = ""
    recipe: str = ""

    @classmethod
    def of(cls, component: Component, arguments: Mapping[str, Any]) -> Description:
        """Import what is needed for it, a backend too, but for a recipe."""
        recipe = ""
        if component.kind == "recipe":
            identifier = Identifier(component.name, component.namespace, arguments)
            recipe = recipes.get(str(identifier)).to_toml()
        else:
            start_backend()
        maker = registry.load(component)
        rows = {
            "kind": component.kind,
            "plugin": f"{component.namespace} ({component.distribution})",
        }
        if isinstance(component, AdapterComponent):
            rows |= _adaptation(component, arguments)
        else:
            if arguments:
                construct(maker, arguments)
            rows["aliases"] = ", ".join(component.aliases) or "none"
            rows["class" if inspect.isclass(maker) else "function"] = component.target
            rows["signature"] = _signature(component.name, maker)
        if component.kind == "quantizer":
            rows |= _promises(maker, arguments)
        return cls(component, rows, inspect.cleandoc(maker.__doc__ or ""), recipe)

    def to_dict(self) -> dict[str, Any]:
        """It as JSON types."""
        return {
            "properties": dict(self.rows),
            "documentation": self.documentation,
            "recipe": self.recipe or None,
        }

    def print(self, console: Console) -> None:
        """Print the properties, the documentation and the recipe."""
        from rich.table import Table

        console.print(self.component.qualified_name, style="bold cyan", end="")
        console.print(f"  {self.component.summary}\n")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column(overflow="fold")
        for label, value in self.rows.items():
            grid.add_row(label, value)
        console.print(grid)
        if self.documentation:
            console.print("\n" + self.documentation)
        if self.recipe:
            console.print("\n" + self.recipe, end="", soft_wrap=True)


def _adaptation(
    component: AdapterComponent, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """What an adapter says of its layer class."""
    if arguments:
        raise ArgumentError(
            f"an adapter takes no arguments, found {next(iter(arguments))!r}. Write: "
            f"qframe show {component.qualified_name}"
        )
    yield "layer class", component.target
    yield "weights", ", ".join(f"{prefix} = {name}" for prefix, name in component.weights)
    yield "channel axis", str(component.channel_axis)


def _signature(name: str, maker: Any) -> str:
    written = [
        key if parameter.default is parameter.empty else f"{key}={parameter.default!r}"
        for key, parameter in named_parameters(maker).items()
    ]
    return f"{name}({', '.join(written)})" if written else name


def _promises(cls: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The precision and the traits of a quantizer, by name."""
    try:
        quantizer = construct(cls, arguments)
    except ArgumentError as error:
        yield "precision", f"depends on its arguments: {error}"
        return
    bits = quantizer.precision
    yield "precision", "not declared" if bits is None else f"{bits} bit" + "s" * (bits > 1)
    kept = []
    # Whatever the traits are: flags are collected, values get a row of their own.
    traits = quantizer.traits
    for name in (field.name for field in type(traits).__attrs_attrs__):
        value = getattr(traits, name)
        if value is True:
            kept.append(name)
        elif isinstance(value, tuple):
            yield name, _numbers(value)
        elif value not in (None, False) and not callable(value):
            yield name, str(value)
    yield "traits", ", ".join(kept) or "none"


def _numbers(values: tuple[Any, ...]) -> str:
    if len(values) > 8:
        return f"{len(values)} values from {values[0]:g} to {values[-1]:g}"
    return ", ".join(f"{value:g}" for value in values)
