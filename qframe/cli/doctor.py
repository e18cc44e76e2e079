"""The command that checks the installation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from qframe.cli.components import plugin_dict, state
from qframe.cli.output import as_json, print_json, print_table

if TYPE_CHECKING:
    from qframe.cli.diagnosis import Diagnosis

# The prefixes of the features that matter to kernels, of several hundred.
_FEATURES = ("avx", "fma", "amx", "neon", "sve", "dotprod", "i8mm", "popcnt", "f16c")


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, and whether it works.

    Versions, backends, plugins and the processor; and a self-test, which quantizes, saves
    and loads a small model. The exit code is 1 where that fails.
    """
    from qframe.cli.diagnosis import Diagnosis

    diagnosis = Diagnosis.make()
    if as_json:
        print_json(_dict(diagnosis))
    else:
        print_table(("What", "Found"), _rows(diagnosis))
    if diagnosis.failure:
        click.echo(f"Error: the self-test failed: {diagnosis.failure}", err=True)
        ctx.exit(1)


def _rows(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    for name, version in diagnosis.versions.items():
        yield name, version or "not installed"
    yield "platform", diagnosis.platform
    yield "backend", diagnosis.backend or "none that works"
    if diagnosis.cpu is None:
        yield "processor", "not asked: numba is not installed"
    else:
        features = [name for name in diagnosis.cpu.features if name.startswith(_FEATURES)]
        text = ", ".join(features) or "nothing special"
        yield "processor", f"{diagnosis.cpu.name}: {text}"
    for plugin in diagnosis.plugins:
        yield f"plugin {plugin.namespace}", f"{plugin.version} {state(plugin)}"
    yield "self-test", "failed" if diagnosis.failure else "passed"


def _dict(diagnosis: Diagnosis) -> dict[str, Any]:
    cpu = diagnosis.cpu
    return {
        "versions": diagnosis.versions,
        "platform": diagnosis.platform,
        "backend": diagnosis.backend,
        "cpu": None if cpu is None else {"name": cpu.name, "features": list(cpu.features)},
        "plugins": [plugin_dict(plugin) for plugin in diagnosis.plugins],
        "self_test": {
            "passed": not diagnosis.failure,
            "message": diagnosis.failure or None,
        },
    }
