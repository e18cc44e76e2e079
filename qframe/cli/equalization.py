"""The command that equalizes the channels of a model."""

from __future__ import annotations

from typing import Any

import click

import qframe as qf
from qframe.cli.data import Data, unlabelled_data
from qframe.cli.output import as_json, keras_output, model_argument, print_saved
from qframe.cli.source import Source
from qframe.paths import OutputPath


@click.command()
@model_argument("model")
@unlabelled_data(need="Only for the methods that run the model.")
@keras_output("equalized model")
@click.option(
    "--method",
    default="cle",
    show_default=True,
    metavar="NAME",
    help="How the scale of a channel follows from weights or data: cle, smoothquant or "
    "awq.",
)
@click.option("--alpha", type=float, help="The share of activations in smoothquant.")
@click.option("--bits", type=int, help="The bits of weights that awq rounds to.")
@click.option("--group-size", type=int, help="The weights with one step, in awq.")
@as_json
def equalize(
    model: str,
    data: str | None,
    output: str,
    force: bool,
    method: str,
    alpha: float | None,
    bits: int | None,
    group_size: int | None,
    as_json: bool,
) -> None:
    """Scale the channels between layers, so that rounding loses less.

    MODEL is a .keras, .h5 or .hdf5 file, and not quantized yet; fold its batch
    normalizations before. The new file holds a model of the same function, which Keras
    alone loads too. A compiled model stays compiled, and its optimizer starts again.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), OutputPath.check(output, ".keras", force=force)
    examples = None if data is None else Data.check(data).x
    options: dict[str, Any] = {"alpha": alpha, "bits": bits, "group_size": group_size}
    given = {name: value for name, value in options.items() if value is not None}
    loaded = source.load(compile=True)
    report = qf.equalize(loaded, examples, method, **given)
    target.write(loaded.save)
    print_saved(report, target.path, as_json)
