"""Commands that list plugins and components. Only ``show`` imports a backend, if needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qframe.cli.output import console, table

if TYPE_CHECKING:
    from qframe.registry import Plugin

KINDS = ("quantizer", "constraint", "recipe", "adapter", "exporter")

_kind = click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Only components of this kind.",
)


@click.command()
def plugins() -> None:
    """List the plugins, broken ones too."""
    from qframe.registry import registry

    console().print(
        table(
            ("Namespace", "Distribution", "Version", "Components", "State"),
            (
                (p.namespace, p.distribution, p.version, len(p.components), _state(p))
                for p in registry.discover().values()
            ),
        )
    )


def _state(plugin: Plugin) -> str:
    if plugin.error:
        return f"broken: {plugin.error}"
    if plugin.disabled:
        return "disabled by QFRAME_DISABLE_PLUGINS or QFRAME_LOAD_PLUGINS"
    return "ok"


@click.command("list")
@_kind
def list_(kind: str | None) -> None:
    """List the components of all plugins."""
    from qframe.registry import registry

    console().print(
        table(
            ("Name", "Kind", "Aliases", "Summary"),
            (
                (c.qualified_name, c.kind, ", ".join(c.aliases), c.summary)
                for c in registry.components(kind)
            ),
        )
    )
    broken = [p.namespace for p in registry.discover().values() if p.error]
    if broken:
        click.echo(
            f"Broken, so not listed: {', '.join(broken)}. `qframe plugins` says why.",
            err=True,
        )


@click.command()
@click.argument("name")
@_kind
def show(name: str, kind: str | None) -> None:
    """Describe one quantizer, constraint, recipe, adapter or exporter.

    NAME is an identifier: ste_sign, binary:ste_sign or 'ste_sign(clip_value=2.0)'; of an
    adapter the name of its layer class.
    """
    # What goes wrong with a name is said before a backend takes seconds to start.
    from qframe.cli.description import describe, find

    component, arguments = find(name, [kind] if kind else KINDS)
    describe(console(), component, arguments)
