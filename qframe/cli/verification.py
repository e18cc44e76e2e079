"""The command that verifies an exported file."""

from __future__ import annotations

from typing import Any

import click

from qframe.cli.data import Data, labelled_data
from qframe.cli.output import as_json, console, model_argument, print_json
from qframe.cli.source import Source
from qframe.exporters import ExportedFile


def _share(name: str, what: str) -> Any:
    """An option for the least share of something, from 0 to 1."""
    return click.option(
        f"--{name}",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help=f"Fail below {what}.",
    )


@click.command()
@model_argument("model")
@model_argument("file")
@labelled_data
@click.option(
    "-t",
    "--target",
    metavar="NAME",
    help="What FILE was written as: one of `qframe list --kind exporter`. Default: the "
    "exporter whose files have this suffix.",
)
@click.option(
    "--edge-examples",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    help="How many examples to compare layer by layer, the first ones.",
)
@_share("equal", "this share of equal numbers, such as 0.99")
@_share("within-one-step", "this share of numbers within one step of the output's grid")
@_share("same-class", "this share of examples with the same class")
@as_json
def verify(
    model: str,
    file: str,
    data: str,
    target: str | None,
    edge_examples: int,
    equal: float | None,
    within_one_step: float | None,
    same_class: float | None,
    as_json: bool,
) -> None:
    """Compare an exported file with its model, edge by edge.

    The file runs in its own runtime, and what is printed says where the two first differ.
    MODEL is a .keras, .h5 or .hdf5 file, FILE what
    `qframe export` wrote of it. The exit code is 1 where a share is below the one that was
    asked for.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, exported = Source.check(model), ExportedFile.check(file, target)
    examples = Data.check(data)
    loaded = source.load(compile=False)
    import qframe as qf

    verified = qf.verify(
        loaded,
        exported.path,
        examples.x,
        examples.y,
        target=exported.component.qualified_name,
        edge_examples=edge_examples,
    )
    if as_json:
        print_json(verified.to_dict())
    else:
        console().print(verified)
        click.echo(verified.conclusion)
    verified.check(equal=equal, within_one_step=within_one_step, same_class=same_class)
