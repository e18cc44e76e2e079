"""The command that rounds quantized weights by their effect on the outputs."""

from __future__ import annotations

import click

import qframe as qf
from qframe.cli.data import Data, unlabelled_data
from qframe.cli.output import as_json, keras_output, model_argument, print_saved
from qframe.cli.source import Source
from qframe.paths import OutputPath


@click.command("round")
@model_argument("model")
@unlabelled_data()
@keras_output("rounded model")
@click.option(
    "--method",
    default="gptq",
    show_default=True,
    metavar="NAME",
    help="The rounder, with its options if there are any: nearest, gptq, adaround, "
    "'gptq(damping=0.02)'. `qframe list --kind rounder` shows all.",
)
@click.option("--keep-biases", is_flag=True, help="Do not correct biases.")
@as_json
def round_(
    model: str,
    data: str,
    output: str,
    force: bool,
    method: str,
    keep_biases: bool,
    as_json: bool,
) -> None:
    """Round quantized weights by their effect on the outputs.

    MODEL is a .keras, .h5 or .hdf5 file that is quantized and, if it has ranges,
    calibrated. Each layer makes up for the errors of those before it, without training. A
    compiled model stays compiled.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), OutputPath.check(output, ".keras", force=force)
    examples = Data.check(data).x
    loaded = source.load(compile=True)
    report = qf.round_weights(loaded, examples, method, correct_biases=not keep_biases)
    target.write(loaded.save)
    print_saved(report, target.path, as_json)
