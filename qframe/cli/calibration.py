"""The command that sets the ranges of a quantized model."""

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
@unlabelled_data()
@keras_output("calibrated model")
@click.option(
    "--method",
    default="minmax",
    show_default=True,
    metavar="NAME",
    help="How a range follows from numbers: minmax, moving_average, percentile, mse or "
    "entropy.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100),
    help="The share of numbers within the range, for that method. Default: 99.99.",
)
@as_json
def calibrate(
    model: str,
    data: str,
    output: str,
    force: bool,
    method: str,
    percentile: float | None,
    as_json: bool,
) -> None:
    """Set the ranges of a quantized model from data.

    MODEL is a .keras, .h5 or .hdf5 file that `qframe quantize` wrote, or that was saved
    in Python. The model runs once over the data, in float, and is not trained. A compiled
    model stays compiled.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), OutputPath.check(output, ".keras", force=force)
    examples = Data.check(data).x
    options: dict[str, Any] = {} if percentile is None else {"percentile": percentile}
    loaded = source.load(compile=True)
    report = qf.calibrate(loaded, examples, method, **options)
    target.write(loaded.save)
    print_saved(report, target.path, as_json)
