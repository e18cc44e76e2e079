"""The commands that measure layers in few bits, and choose the bits of each."""

from __future__ import annotations

import json
from typing import Any

import attrs
import click

import qframe as qf
from qframe.cli.data import Data
from qframe.cli.output import as_json, console, model_argument, print_json
from qframe.cli.source import Source
from qframe.errors import ArgumentError, DataError
from qframe.paths import OutputPath, existing_file
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

_BITS = "2,3,4,6,8"


class _Widths(click.ParamType):  # type: ignore[type-arg]
    """Numbers of bits, separated by commas."""

    name = "BITS"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of bits such as {_BITS}.", param, ctx)


_measured_bits = click.option(
    "--bits", type=_Widths(), default=_BITS, show_default=True, help="Bits to measure."
)
_metric = click.option(
    "--metric",
    default="kl",
    show_default=True,
    metavar="NAME",
    help="One of `qframe list --kind sensitivity_metric`.",
)
_quantizer = click.option(
    "--quantizer",
    metavar="NAME",
    help="A quantizer for the weights of every layer, whose bits are replaced. Default: "
    "that of the layer, else that of the recipe integer_weights.",
)
_force = click.option("--force", is_flag=True, help="Replace the file if it exists.")


@click.command()
@model_argument("model")
@click.option(
    "--data",
    required=True,
    metavar="FILE.npz",
    help="Examples as the array x or x_test, and for the metric loss labels as y or "
    "y_test. Some hundreds are enough.",
)
@_measured_bits
@_metric
@_quantizer
@click.option(
    "-o", "--output", metavar="FILE.json", help="Where to save the table, for allocate."
)
@_force
@as_json
def sensitivity(
    model: str,
    data: str,
    bits: tuple[int, ...],
    metric: str,
    quantizer: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure what each layer alone loses in few bits.

    MODEL is a .keras, .h5 or .hdf5 file, in float or quantized, and stays as it is. It is
    not trained.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), _target(output, ".json", force)
    examples = _checked(data, metric, quantizer)
    loaded = source.load(compile=False)
    table = qf.sensitivity(
        loaded, examples.x, bits, metric, labels=examples.y, quantizer=quantizer
    )
    if target is not None:
        content = json.dumps(table.to_dict(), indent=2, allow_nan=False)
        target.write(lambda draft: draft.write_text(content, "utf-8"))
    _show(table, target, as_json)


@click.command()
@model_argument("model")
@click.option(
    "--table", metavar="FILE.json", help="What `qframe sensitivity` saved of the model."
)
@click.option("--data", metavar="FILE.npz", help="Without a table: examples to measure on.")
@_measured_bits
@_metric
@_quantizer
@click.option("--size", type=float, metavar="BYTES", help="The most bytes of all weights.")
@click.option(
    "--average", type=float, metavar="BITS", help="The largest average bits of a number."
)
@click.option("--bops", type=float, metavar="N", help="The most bit operations.")
@click.option(
    "--among", type=_Widths(), help="The bits that a target takes. Default: all measured."
)
@click.option(
    "--fix",
    multiple=True,
    metavar="LAYER=BITS",
    help="The bits of a layer: a path, 're:<regex on the path>', first or last. May be "
    "repeated.",
)
@click.option("-o", "--output", metavar="FILE.toml", help="Where to save the recipe.")
@_force
@as_json
def allocate(
    model: str,
    table: str | None,
    data: str | None,
    bits: tuple[int, ...],
    metric: str,
    quantizer: str | None,
    size: float | None,
    average: float | None,
    bops: float | None,
    among: tuple[int, ...] | None,
    fix: tuple[str, ...],
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Choose the bits of each layer within a budget.

    MODEL is a .keras, .h5 or .hdf5 file, and stays as it is. The recipe is one for `qframe
    quantize`. Without a budget the best choices of all sizes are printed.
    """
    # Wrong arguments are reported before the slow start of a backend.
    source, target = Source.check(model), _target(output, ".toml", force)
    budget: dict[str, Any] = {"size": size, "bits": average, "bops": bops}
    given = [name for name, value in budget.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError("write one of --size, --average and --bops.")
    if target is not None and not given:
        raise click.UsageError("a recipe has a budget: write --size, --average or --bops.")
    fixed = dict(map(_fixed, fix))
    if (table is None) == (data is None):
        raise click.UsageError(
            "write --table with what `qframe sensitivity -o table.json` saved, or --data "
            "with examples to measure on."
        )
    content = None if table is None else _read(table)
    examples = None if data is None else _checked(data, metric, quantizer)
    loaded = source.load(compile=False)
    if examples is None:
        measured = qf.passes.Sensitivity.from_dict(content)
    else:
        measured = qf.sensitivity(
            loaded, examples.x, bits, metric, labels=examples.y, quantizer=quantizer
        )
    found = qf.allocate(loaded, measured, **budget, among=among, fixed=fixed or None)
    if not given:
        _show(found, None, as_json)
        return
    planned = attrs.evolve(qf.plan(loaded, found), title=found.summary)
    if target is not None:
        recipe = found.to_toml()
        target.write(lambda draft: draft.write_text(recipe, "utf-8"))
    _show(planned, target, as_json)


def _target(output: str | None, suffix: str, force: bool) -> OutputPath | None:
    return None if output is None else OutputPath.check(output, suffix, force=force)


def _checked(data: str, metric: str, quantizer: str | None) -> Data:
    registry.resolve("sensitivity_metric", Identifier.parse(metric))
    if quantizer is not None:
        registry.resolve("quantizer", Identifier.parse(quantizer, positional=True))
    return Data.check(data)


def _read(table: str) -> Any:
    path = existing_file(table, ".json")
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{table} is not JSON: {error}.") from error


def _fixed(text: str) -> tuple[Any, int]:
    layer, equals, bits = text.rpartition("=")
    if not equals or not bits.strip().isdecimal():
        raise ArgumentError(
            f"--fix takes LAYER=BITS, found {text!r}. Write for example --fix first=8."
        )
    positions: dict[str, Any] = {"first": qf.first, "last": qf.last}
    return positions.get(layer, layer), int(bits)


def _show(found: Any, target: OutputPath | None, as_json: bool) -> None:
    if as_json:
        saved = {} if target is None else {"saved": str(target.path)}
        print_json({**found.to_dict(), **saved})
        return
    console().print(found)
    if target is not None:
        click.echo(f"Saved {target.path}.")
