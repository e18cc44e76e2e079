"""The command that says what is installed, and whether it works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from qframe.cli.components import plugin_dict, state
from qframe.cli.output import as_json, console, print_json, table

if TYPE_CHECKING:
    from qframe.cli.diagnosis import Diagnosis

# Of several hundred, those that a kernel makes a difference by.
_TOLD = ("avx", "fma", "amx", "neon", "sve", "dotprod", "i8mm", "popcnt", "f16c")


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, and whether it works.

    Versions, backends, plugins and the processor; and a self-test, which quantizes, saves
    and loads a small model. The exit code is 1 where that fails.
    """
    from qframe.cli.diagnosis import Diagnosis

    found = Diagnosis.make()
    if as_json:
        print_json(_dict(found))
    else:
        console().print(table(("What", "Found"), _rows(found)))
    if found.failure:
        click.echo(f"Error: the self-test failed: {found.failure}", err=True)
        ctx.exit(1)


def _rows(found: Diagnosis) -> Iterator[tuple[str, str]]:
    for name, version in found.versions.items():
        yield name, version or "not installed"
    yield "platform", found.platform
    yield "backend", found.backend or "none that works"
    if found.cpu is None:
        yield "processor", "not asked: numba is not installed"
    else:
        told = [name for name in found.cpu.features if name.startswith(_TOLD)]
        yield "processor", f"{found.cpu.name}: {', '.join(told) or 'nothing special'}"
    for plugin in found.plugins:
        yield f"plugin {plugin.namespace}", f"{plugin.version} {state(plugin)}"
    yield "self-test", "failed" if found.failure else "passed"


def _dict(found: Diagnosis) -> dict[str, Any]:
    cpu = found.cpu
    return {
        "versions": found.versions,
        "platform": found.platform,
        "backend": found.backend,
        "cpu": None if cpu is None else {"name": cpu.name, "features": list(cpu.features)},
        "plugins": [plugin_dict(plugin) for plugin in found.plugins],
        "self_test": {"passed": not found.failure, "message": found.failure or None},
    }
