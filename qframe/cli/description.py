"""The description of a component that ``qframe show`` prints."""

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
    matches: list[Component] = []
    errors: dict[str, UnknownNameError] = {}
    for kind in kinds:
        try:
            matches.append(registry.resolve(kind, identifier))
        except UnknownNameError as error:
            errors[kind] = error
    if len(matches) > 1:
        raise AmbiguousNameError(
            f"{text!r} is the name of a {' and of a '.join(c.kind for c in matches)}. "
            f"Add --kind {' or --kind '.join(c.kind for c in matches)}."
        )
    if not matches:
        raise errors[max(kinds, key=lambda kind: _resembles(identifier.name, kind))]
    return matches[0], arguments_of(matches[0], identifier)


def _resembles(name: str, kind: str) -> bool:
    """Return whether a component of this kind has a similar name."""
    known = [alias for c in registry.components(kind) for alias in c.names]
    return bool(did_you_mean(name, known))


@attrs.frozen
class Description:
    """The description of a component with some arguments.

    Args:
        component: the component.
        rows: its properties, by label.
        documentation: its docstring.
        recipe: the rules of a recipe, in TOML.
    """

    component: Component
    rows: Mapping[str, str]
    documentation: str = ""
    recipe: str = ""

    @classmethod
    def of(cls, component: Component, arguments: Mapping[str, Any]) -> Description:
        """Describe a component; all kinds except recipes are imported with a backend."""
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
            rows |= _adapter_rows(component, arguments)
        else:
            if arguments:
                construct(maker, arguments)
            rows["aliases"] = ", ".join(component.aliases) or "none"
            rows["class" if inspect.isclass(maker) else "function"] = component.target
            rows["signature"] = _signature(component.name, maker)
        if component.kind == "quantizer":
            rows |= _quantizer_rows(maker, arguments)
        return cls(component, rows, inspect.cleandoc(maker.__doc__ or ""), recipe)

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON types."""
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
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for label, value in self.rows.items():
            table.add_row(label, value)
        console.print(table)
        if self.documentation:
            console.print("\n" + self.documentation)
        if self.recipe:
            console.print("\n" + self.recipe, end="", soft_wrap=True)


def _adapter_rows(
    component: AdapterComponent, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The properties of an adapter."""
    if arguments:
        raise ArgumentError(
            f"an adapter takes no arguments, found {next(iter(arguments))!r}. Write: "
            f"qframe show {component.qualified_name}"
        )
    yield "layer class", component.target
    yield "weights", ", ".join(f"{prefix} = {name}" for prefix, name in component.weights)
    yield "channel axis", str(component.channel_axis)


def _signature(name: str, maker: Any) -> str:
    parameters = [
        key if parameter.default is parameter.empty else f"{key}={parameter.default!r}"
        for key, parameter in named_parameters(maker).items()
    ]
    return f"{name}({', '.join(parameters)})" if parameters else name


def _quantizer_rows(cls: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The precision and the traits of a quantizer, by name."""
    try:
        quantizer = construct(cls, arguments)
    except ArgumentError as error:
        yield "precision", f"depends on its arguments: {error}"
        return
    bits = quantizer.precision
    yield "precision", "not declared" if bits is None else f"{bits} bit" + "s" * (bits > 1)
    flags = []
    # All flags are in one row, each value is in a separate one.
    traits = quantizer.traits
    for name in (field.name for field in type(traits).__attrs_attrs__):
        value = getattr(traits, name)
        if value is True:
            flags.append(name)
        elif isinstance(value, tuple):
            yield name, _numbers(value)
        elif value not in (None, False) and not callable(value):
            yield name, str(value)
    yield "traits", ", ".join(flags) or "none"


def _numbers(values: tuple[Any, ...]) -> str:
    if len(values) > 8:
        return f"{len(values)} values from {values[0]:g} to {values[-1]:g}"
    return ", ".join(f"{value:g}" for value in values)
