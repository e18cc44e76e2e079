"""Commands on whole models; all of them start a backend."""

from __future__ import annotations

import itertools
from pathlib import Path

import click

from qframe.cli.backend import start_backend
from qframe.cli.output import as_json, console, model_argument, print_json
from qframe.cli.source import Source
from qframe.paths import OutputPath


@click.command()
@model_argument("model")
@click.option("--no-macs", is_flag=True, help="Leave out the multiply-accumulates.")
@as_json
def summary(model: str, no_macs: bool, as_json: bool) -> None:
    """Say what a saved model costs.

    Bits, memory and multiply-accumulates of each layer. MODEL is a .keras, .h5 or .hdf5
    file.
    """
    loaded = Source.check(model).load(compile=False)
    import qframe as qf

    if as_json:
        print_json(qf.models.profile(loaded).to_dict())
    elif no_macs:
        qf.models.summary(loaded, print_fn=click.echo, include_macs=False)
    else:
        console().print(qf.models.profile(loaded))


@click.command()
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|mnist|FILE.npz",
    help="Images to train with: 1797 small ones that need no network, MNIST (a "
    "download), or a file with x_train, y_train, x_test and y_test.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="How often to see each image. Default: 16 for digits, 6 for the others.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of all random numbers.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE.keras",
    help="Where to save the model. Default: qframe-quickstart.keras. If that file exists, "
    "a number is added: qframe-quickstart-2.keras.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def quickstart(
    data: str, epochs: int | None, seed: int, output: str | None, force: bool
) -> None:
    """Train, save and load a binary network.

    It reads handwritten digits. A fresh process loads the saved file and predicts the
    test images; what it predicts must equal, to the bit, what the trained model does.
    """
    from qframe.cli.quickstart.data import load

    # Wrong arguments are reported before the slow start of a backend.
    name = _default_output(force) if output is None else output
    target = OutputPath.check(name, ".keras", force=force)
    local = None if data == "mnist" else load(data)
    out = console()
    with out.status("Starting Keras"):
        start_backend()
        from qframe.cli.quickstart.job import run
    # MNIST is downloaded by Keras, after its start.
    digits = local or load(data)
    run(digits, epochs or digits.epochs, seed, target, out)


def _default_output(force: bool) -> str:
    """The first unused default file name; with `--force` the first one, used or not.

    A second run neither fails nor replaces the file of the first.
    """
    numbered = (f"qframe-quickstart-{number}.keras" for number in itertools.count(2))
    names = itertools.chain(["qframe-quickstart.keras"], numbered)
    return next(name for name in names if force or not Path(name).exists())
