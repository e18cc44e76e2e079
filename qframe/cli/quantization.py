"""Commands that quantize a saved model or print the plan."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import click

import qframe as qf
from qframe.cli.completion import recipe_names
from qframe.cli.data import Data, unlabelled_data
from qframe.cli.output import (
    as_json,
    console,
    keras_output,
    model_argument,
    print_json,
    print_saved,
)
from qframe.cli.source import Source
from qframe.errors import ConstantActivationsWarning, UnprunedWeightsWarning
from qframe.paths import OutputPath


def _arguments(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments of both commands."""
    for decorate in (
        click.option(
            "--no-compile",
            is_flag=True,
            help="Leave out the loss, the metrics and the optimizer of the model.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="A layer whose weights qframe does not know is an error.",
        ),
        click.option(
            "-r",
            "--recipe",
            required=True,
            metavar="FILE.toml|NAME",
            shell_complete=recipe_names,
            help="What to give to which layers: a file, or one of "
            "`qframe list --kind recipe`.",
        ),
        model_argument("model"),
        as_json,
    ):
        command = decorate(command)
    return command


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings that the notes of a report repeat."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantActivationsWarning)
        warnings.simplefilter("ignore", UnprunedWeightsWarning)
        yield


@click.command()
@_arguments
@unlabelled_data(need="Calibrates the model too: the ranges of the recipe.")
@keras_output("quantized model")
def quantize(
    model: str,
    recipe: str,
    strict: bool,
    no_compile: bool,
    as_json: bool,
    data: str | None,
    output: str,
    force: bool,
) -> None:
    """Quantize a saved model.

    MODEL is a .keras, .h5 or .hdf5 file. The new file holds the same weights, and
    quantizers as the recipe says; qframe.load_model loads it. With data it is calibrated,
    and can be exported. A compiled model stays compiled.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, rules = Source.check(model), qf.recipes.get(recipe)
    target = OutputPath.check(output, ".keras", force=force)
    examples = None if data is None else Data.check(data).x
    loaded = source.load(compile=not no_compile)
    with _without_warnings():
        report = qf.quantize(loaded, rules, strict=strict)
    calibration = None if examples is None else qf.calibrate(loaded, examples)
    target.write(loaded.save)
    print_saved(report, target.path, as_json, calibration=calibration)


@click.command()
@_arguments
def plan(model: str, recipe: str, strict: bool, no_compile: bool, as_json: bool) -> None:
    """Say what quantizing a saved model would do.

    MODEL is a .keras, .h5 or .hdf5 file, and stays as it is.
    """
    source, rules = Source.check(model), qf.recipes.get(recipe)
    loaded = source.load(compile=not no_compile)
    with _without_warnings():
        report = qf.plan(loaded, rules, strict=strict)
    if as_json:
        print_json(report.to_dict())
    else:
        console().print(report)
