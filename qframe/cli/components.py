"""Commands that list plugins and components; only ``show`` may import a backend."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from qframe.cli.completion import component_names
from qframe.cli.output import as_json, console, one_line, print_json, print_table

if TYPE_CHECKING:
    from qframe.cli.checking import Fault
    from qframe.registry.components import Component
    from qframe.registry.discovery import Plugin

KINDS = (
    *("quantizer", "constraint", "recipe", "adapter", "exporter"),
    *("rounder", "sensitivity_metric"),
)

_kind = click.option(
    "--kind", type=click.Choice(KINDS), help="Only components of this kind."
)


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Load all that the plugins offer, which starts a backend. The exit code is 1 "
    "where anything is broken.",
)
@as_json
@click.pass_context
def plugins(ctx: click.Context, check: bool, as_json: bool) -> None:
    """List the plugins, broken ones too."""
    from qframe.registry.discovery import registry

    installed = list(registry.discover().values())
    faults: list[list[Fault]] = []
    if check:
        from qframe.cli.checking import faults_of

        faults = [faults_of(plugin) for plugin in installed]
    if as_json:
        pairs = itertools.zip_longest(installed, faults)
        print_json({"plugins": [plugin_dict(*pair) for pair in pairs]})
    else:
        print_table(
            ("Namespace", "Distribution", "Version", "Components", "State"),
            (
                (p.namespace, p.distribution, p.version, len(p.components), state(p))
                for p in installed
            ),
        )
    for fault in itertools.chain(*faults):
        click.echo(f"Error: {one_line(fault)}", err=True)
    if any(faults):
        ctx.exit(1)


def plugin_dict(plugin: Plugin, faults: Sequence[Fault] | None = None) -> dict[str, Any]:
    """A plugin as JSON types, with the faults from a check."""
    description = {
        "namespace": plugin.namespace,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "components": len(plugin.components),
        "disabled": plugin.disabled,
        "error": plugin.error or None,
    }
    if faults is not None:
        description["faults"] = [fault.to_dict() for fault in faults]
    return description


def state(plugin: Plugin) -> str:
    """The state of a plugin as text."""
    if plugin.error:
        return f"broken: {plugin.error}"
    if plugin.disabled:
        return "disabled by QFRAME_DISABLE_PLUGINS or QFRAME_LOAD_PLUGINS"
    return "ok"


@click.command("list")
@_kind
@as_json
def list_(kind: str | None, as_json: bool) -> None:
    """List the components of all plugins."""
    from qframe.registry.discovery import registry

    broken = [p.namespace for p in registry.discover().values() if p.error]
    if as_json:
        components = [component_dict(c) for c in registry.components(kind)]
        print_json({"components": components, "broken_plugins": broken})
        return
    print_table(
        ("Name", "Kind", "Aliases", "Summary"),
        (
            (c.qualified_name, c.kind, ", ".join(c.aliases), c.summary)
            for c in registry.components(kind)
        ),
    )
    if broken:
        click.echo(
            f"Broken, so not listed: {', '.join(broken)}. `qframe plugins` says why.",
            err=True,
        )


@click.command()
@click.argument("name", shell_complete=component_names)
@_kind
@as_json
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Describe one quantizer, recipe or other component.

    NAME is an identifier: ste_sign, binary:ste_sign or 'ste_sign(clip_value=2.0)'; of an
    adapter the name of its layer class.
    """
    # A wrong name is reported before the slow start of a backend.
    from qframe.cli.description import Description, find

    component, arguments = find(name, [kind] if kind else KINDS)
    description = Description.of(component, arguments)
    if as_json:
        print_json({**component_dict(component), **description.to_dict()})
    else:
        description.print(console())


def component_dict(component: Component) -> dict[str, Any]:
    """A component as JSON types."""
    return {
        "name": component.qualified_name,
        "kind": component.kind,
        "distribution": component.distribution,
        "aliases": list(component.aliases),
        "summary": component.summary,
    }
