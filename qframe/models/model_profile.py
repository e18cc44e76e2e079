"""The cost of a whole model: sums over its layers, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from qframe.models.records import FLOAT_BITS, LayerProfile, Tally
from qframe.tables import Table, Tabular, readable, readable_size


@attrs.frozen
class ModelProfile(Tabular):
    """The cost of a model: bits, memory and multiply-accumulate operations.

    A sum with an unknown term is None, never a smaller number; the tables then show the
    known part as ``194688 + ?``. Prints as two tables with rich and in a notebook.

    Args:
        name: the name of the model.
        layers: one record per layer, in the order of the model.
        notes: settings that cannot work, with what to type.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
        >>> qf.models.profile(model).mac_count()
        16
    """

    name: str
    layers: tuple[LayerProfile, ...]
    notes: tuple[str, ...] = ()

    def parameter_count(
        self, bits: int | None = None, trainable: bool | None = None
    ) -> int | None:
        """Return the number of parameters that match; None where not known."""
        counts = (layer.parameter_count(bits, trainable) for layer in self.layers)
        return Tally.of(counts).value

    @property
    def memory(self) -> int | None:
        """The size of the weights in bits; None where a layer is not built."""
        return Tally.of(layer.memory for layer in self.layers).value

    @property
    def float_memory(self) -> int | None:
        """The size in bits if every weight had 32."""
        count = self.parameter_count()
        return None if count is None else FLOAT_BITS * count

    def mac_count(self, precision: int | None = None) -> int | None:
        """Return the MACs (of one precision) for one sample; None where not known."""
        return self.mac_tally(precision).value

    def mac_tally(self, precision: int | None = None) -> Tally:
        """Return `mac_count` with the known part of the sum."""
        tallies = [layer.mac_tally(precision) for layer in self.layers]
        return Tally(sum(t.known for t in tallies), all(t.complete for t in tallies))

    @property
    def weight_bits(self) -> list[int]:
        """The bit widths of the weights, ascending."""
        return sorted({w.bits for layer in self.layers for w in layer.weights})

    @property
    def mac_precisions(self) -> list[int]:
        """The precisions of the MACs, ascending."""
        macs = [mac for layer in self.layers for mac in layer.macs]
        precisions = sorted({m.precision for m in macs if m.precision is not None})
        # Unknown MACs of unknown precision need a column for their "?".
        return precisions or ([FLOAT_BITS] if macs else [])

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON types, with None for unknown numbers."""
        return {
            "name": self.name,
            "parameters": self.parameter_count(),
            "trainable_parameters": self.parameter_count(trainable=True),
            "non_trainable_parameters": self.parameter_count(trainable=False),
            "parameters_by_bits": {
                f"{b}": self.parameter_count(b) for b in self.weight_bits
            },
            "memory_bits": self.memory,
            "float32_memory_bits": self.float_memory,
            "macs": self.mac_count(),
            "macs_by_precision": {f"{p}": self.mac_count(p) for p in self.mac_precisions},
            "layers": [layer.to_dict() for layer in self.layers],
            "notes": list(self.notes),
        }

    def tables(self, include_macs: bool = True) -> tuple[Table, Table]:
        """Return a table with one row per layer, and one of the whole model."""
        return layers_table(self, include_macs), summary_table(self, include_macs)


def layers_table(profile: ModelProfile, include_macs: bool = True) -> Table:
    """Return a table with one row per layer, and their sum."""
    layers = profile.layers
    widths = profile.weight_bits
    precisions = profile.mac_precisions if include_macs else []
    header = ["Layer", "Input prec.\n(bit)", "Outputs"]
    header += [f"# {bits}-bit\nx 1" for bits in widths]
    header += ["Memory\n(kB)", *(f"{precision}-bit MACs" for precision in precisions)]
    rows = [
        [
            layer.name,
            "-" if layer.input_precision is None else str(layer.input_precision),
            _shapes(layer),
            *(or_unknown(layer.parameter_count(bits)) for bits in widths),
            or_unknown(layer.memory, _kilobytes),
            *(or_unknown(layer.mac_count(precision)) for precision in precisions),
        ]
        for layer in layers
    ]
    footer = ["Total", "", ""]
    footer += [_total(layer.parameter_count(bits) for layer in layers) for bits in widths]
    footer.append(_total((layer.memory for layer in layers), _kilobytes))
    footer += [_tally(profile.mac_tally(precision), str) for precision in precisions]
    return Table(f"{profile.name} stats", header, rows, footer)


def summary_table(profile: ModelProfile, include_macs: bool = True) -> Table:
    """Return a table of the whole model."""
    layers = profile.layers
    counts, trainable, fixed = (
        [layer.parameter_count(trainable=which) for layer in layers]
        for which in (None, True, False)
    )
    bits = Tally.of(layer.memory for layer in layers)
    within_8 = [layer.memory_within(8) for layer in layers]
    floats = Tally.of(counts).known * FLOAT_BITS
    rows = [
        ["Total params", _total(counts, readable)],
        ["Trainable params", _total(trainable, readable)],
        ["Non-trainable params", _total(fixed, readable)],
        ["Model size", _tally(bits, readable_size)],
        ["Model size (8-bit FP weights)", _total(within_8, readable_size)],
        ["Float-32 Equivalent", _tally(Tally(floats, bits.complete), readable_size)],
        ["Compression Ratio of Memory", _ratio(bits, floats, 2)],
    ]
    if include_macs:
        macs = profile.mac_tally()
        rows.append(["Number of MACs", _tally(macs, readable)])
        for precision, name in [(1, "binarized"), (2, "ternarized")]:
            some = profile.mac_tally(precision)
            if some.known:
                part = Tally(some.known, macs.complete)
                rows.append([f"Ratio of MACs that are {name}", _ratio(part, macs.known, 4)])
    return Table(f"{profile.name} summary", (), rows, notes=profile.notes)


def _shapes(layer: LayerProfile) -> str:
    return ", ".join(
        "?" if shape is None else str(tuple(-1 if dim is None else dim for dim in shape))
        for shape in layer.output_shapes
    )


def _kilobytes(bits: int) -> str:
    return f"{bits / 8 / 1024:.2f}" if bits else "0"


def or_unknown(number: int | None, text: Callable[[int], str] = str) -> str:
    """Return the text of a number, or a question mark for None."""
    return "?" if number is None else text(number)


def _total(terms: Iterable[int | None], text: Callable[[int], str] = str) -> str:
    return _tally(Tally.of(terms), text)


def _tally(tally: Tally, text: Callable[[int], str]) -> str:
    """Return the text of a sum, marked where some of its terms are not known."""
    if tally.complete:
        return text(tally.known)
    return f"{text(tally.known)} + ?" if tally.known else "?"


def _ratio(part: Tally, whole: int, decimals: int) -> str:
    if not part.complete:
        return "?"
    return f"{part.known / whole if whole else 0:.{decimals}f}"
