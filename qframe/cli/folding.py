"""The command that folds batch normalizations."""

from __future__ import annotations

import click

import qframe as qf
from qframe.cli.output import as_json, keras_output, model_argument, print_saved
from qframe.cli.source import Source
from qframe.paths import OutputPath


@click.command()
@model_argument("model")
@keras_output("folded model")
@as_json
def fold(model: str, output: str, force: bool, as_json: bool) -> None:
    """Fold batch normalizations into the layers before them.

    MODEL is a .keras, .h5 or .hdf5 file, and not quantized yet. The new file holds a model
    of the same function, which Keras alone loads too. A compiled model stays compiled, and
    its optimizer starts again.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), OutputPath.check(output, ".keras", force=force)
    loaded = source.load(compile=True)
    report = qf.fold_batchnorm(loaded)
    target.write(loaded.save)
    print_saved(report, target.path, as_json)
