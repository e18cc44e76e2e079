"""The command that writes a model for another runtime."""

from __future__ import annotations

import click

from qframe.cli.output import model_argument
from qframe.cli.source import Source
from qframe.exporters import Export


@click.command()
@model_argument("model")
@click.option(
    "-t",
    "--target",
    required=True,
    metavar="NAME",
    help="What to write: one of `qframe list --kind exporter`, with options as in "
    "\"packed(floats='float16')\".",
)
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to write it.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def export(model: str, target: str, output: str, force: bool) -> None:
    """Write a saved model for another runtime.

    MODEL is a .keras, .h5 or .hdf5 file.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, writer = Source.check(model), Export.check(output, target, force=force)
    loaded = source.load(compile=False)
    writer.run(loaded)
    path = writer.output.path
    click.echo(f"Saved {path} ({path.stat().st_size} bytes).")
    import qframe as qf

    profile = qf.models.profile(loaded)
    if profile.memory is not None and profile.float_memory is not None:
        floats, bits = profile.float_memory // 8, -(-profile.memory // 8)
        click.echo(f"The weights take {floats} bytes as float32, and {bits} as quantized.")
