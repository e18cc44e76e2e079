"""Commands that report the effects of quantization on saved models."""

from __future__ import annotations

import click

import qframe as qf
from qframe.cli.data import Data, labelled_data
from qframe.cli.output import as_json, console, model_argument, print_json
from qframe.cli.source import Source
from qframe.paths import OutputPath


@click.command()
@model_argument("model")
@click.option(
    "--data",
    metavar="FILE.npz",
    help="Examples to run the model on, as the array x or x_test: for the ranges of "
    "activations, and the noise of each layer.",
)
@click.option(
    "-o", "--output", required=True, metavar="FILE.html", help="Where to save the page."
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def report(model: str, data: str | None, output: str, force: bool) -> None:
    """Draw what quantization does to a saved model.

    One page of HTML, complete in itself: the layers and their bits, histograms of the
    weights, errors and saturation. MODEL is a .keras, .h5 or .hdf5 file.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), OutputPath.check(output, ".html", force=force)
    examples = None if data is None else Data.check(data).x
    page = qf.report(source.load(compile=False), examples)
    page.save(target.path)
    worst = page.activations[0] if page.activations else None
    if worst is not None and worst.noise.decibels is not None:
        click.echo(f"The worst layer is {worst.path}: {worst.noise.decibels:.1f} dB.")
    click.echo(f"Saved {target.path}.")


@click.command()
@model_argument("first")
@model_argument("second")
@labelled_data
@as_json
def compare(first: str, second: str, data: str, as_json: bool) -> None:
    """Say what two saved models cost, and where they part.

    FIRST and SECOND are .keras, .h5 or .hdf5 files. Layers are matched by their paths.
    """
    sources = [Source.check(name) for name in (first, second)]
    examples = Data.check(data)
    one, other = (source.load(compile=False) for source in sources)
    comparison = qf.compare(one, other, examples.x, examples.y)
    if as_json:
        print_json(comparison.to_dict())
    else:
        console().print(comparison)
        click.echo(comparison.conclusion)
