"""A profile as rows of text, before a table is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from qframe.models.model_profile import ModelProfile
from qframe.models.records import FLOAT_BITS, LayerProfile, Tally


@attrs.frozen
class Grid:
    """A table of text; the header and the footer may be empty. Notes stand below it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()
    notes: Sequence[str] = ()


def layers_grid(profile: ModelProfile, include_macs: bool = True) -> Grid:
    """One row a layer, and their sum."""
    layers = profile.layers
    widths = profile.weight_bits
    precisions = profile.mac_precisions if include_macs else []
    header = [
        "Layer",
        "Input prec.\n(bit)",
        "Outputs",
        *(f"# {bits}-bit\nx 1" for bits in widths),
        "Memory\n(kB)",
        *(f"{precision}-bit MACs" for precision in precisions),
    ]
    rows = [
        [
            layer.name,
            "-" if layer.input_precision is None else str(layer.input_precision),
            _shapes(layer),
            *(_or_unknown(layer.parameter_count(bits)) for bits in widths),
            _or_unknown(layer.memory, _kilobytes),
            *(_or_unknown(layer.mac_count(precision)) for precision in precisions),
        ]
        for layer in layers
    ]
    footer = [
        "Total",
        "",
        "",
        *(_total(layer.parameter_count(bits) for layer in layers) for bits in widths),
        _total((layer.memory for layer in layers), _kilobytes),
        *(_tally(profile.mac_tally(precision), str) for precision in precisions),
    ]
    return Grid(f"{profile.name} stats", header, rows, footer)


def summary_grid(profile: ModelProfile, include_macs: bool = True) -> Grid:
    """The figures of the whole model."""
    layers = profile.layers
    counts = [layer.parameter_count() for layer in layers]
    bits = Tally.of(layer.memory for layer in layers)
    floats = Tally.of(counts).known * FLOAT_BITS
    rows = [
        ["Total params", _total(counts, readable)],
        [
            "Trainable params",
            _total((layer.parameter_count(trainable=True) for layer in layers), readable),
        ],
        [
            "Non-trainable params",
            _total((layer.parameter_count(trainable=False) for layer in layers), readable),
        ],
        ["Model size", _tally(bits, readable_size)],
        [
            "Model size (8-bit FP weights)",
            _total((layer.memory_within(8) for layer in layers), readable_size),
        ],
        [
            "Float-32 Equivalent",
            _tally(Tally(floats, bits.complete), readable_size),
        ],
        ["Compression Ratio of Memory", _ratio(bits, floats, 2)],
    ]
    if include_macs:
        macs = profile.mac_tally()
        rows.append(["Number of MACs", _tally(macs, readable)])
        for precision, word in [(1, "binarized"), (2, "ternarized")]:
            some = profile.mac_tally(precision)
            if some.known:
                part = Tally(some.known, macs.complete)
                rows.append([f"Ratio of MACs that are {word}", _ratio(part, macs.known, 4)])
    return Grid(f"{profile.name} summary", (), rows, notes=profile.notes)


def readable(number: int) -> str:
    """Three significant figures: ``468``, ``93.1 k``, ``2.79 M``."""
    scaled = float(f"{number:.3g}")  # first, so that 999999 becomes 1 M and not 1000 k
    if scaled >= 1e15:
        return f"{scaled:.2E}"
    for unit in ("", " k", " M", " B"):
        if scaled < 1000:
            return f"{scaled:.3g}{unit}"
        scaled /= 1000
    return f"{scaled:.3g} T"


def readable_size(bits: int) -> str:
    """Bits as bytes with two decimals: ``13.19 KiB``."""
    scaled = bits / 8
    for unit in ("B", "KiB", "MiB"):
        if scaled < 1024:
            return f"{scaled:.2f} {unit}"
        scaled /= 1024
    return f"{scaled:.2f} GiB"


def _shapes(layer: LayerProfile) -> str:
    return ", ".join(
        "?" if shape is None else str(tuple(-1 if dim is None else dim for dim in shape))
        for shape in layer.output_shapes
    )


def _kilobytes(bits: int) -> str:
    return f"{bits / 8 / 1024:.2f}" if bits else "0"


def _or_unknown(number: int | None, text: Callable[[int], str] = str) -> str:
    return "?" if number is None else text(number)


def _total(terms: Iterable[int | None], text: Callable[[int], str] = str) -> str:
    return _tally(Tally.of(terms), text)


def _tally(tally: Tally, text: Callable[[int], str]) -> str:
    """The sum, with a mark where some of its terms are not known."""
    if tally.complete:
        return text(tally.known)
    return f"{text(tally.known)} + ?" if tally.known else "?"


def _ratio(part: Tally, whole: int, decimals: int) -> str:
    if not part.complete:
        return "?"
    return f"{part.known / whole if whole else 0:.{decimals}f}"
