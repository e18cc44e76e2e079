"""What a whole model costs: sums over its layers, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from qframe.models.records import FLOAT_BITS, LayerProfile, Tally
from qframe.tables import Table, Tabular, readable, readable_size


@attrs.frozen
class ModelProfile(Tabular):
    """What a model costs: bits, memory and multiply-accumulate operations.

    A sum over something unknown is None, never a smaller number; the tables then show
    the known part as ``194688 + ?``. Prints as two tables with rich and in a notebook.

    Args:
        name: the name of the model.
        layers: one record a layer, in the order of the model.
        notes: what cannot work as it is set, with what to type.

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
        """The number of parameters, or of those that match; None where not known."""
        return Tally.of(
            layer.parameter_count(bits, trainable) for layer in self.layers
        ).value

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
        """The MACs (of one precision) for one sample; None where not known."""
        return self.mac_tally(precision).value

    def mac_tally(self, precision: int | None = None) -> Tally:
        """`mac_count` with the part that is known."""
        tallies = [layer.mac_tally(precision) for layer in self.layers]
        return Tally(sum(t.known for t in tallies), all(t.complete for t in tallies))

    @property
    def weight_bits(self) -> list[int]:
        """The bit widths of weights that occur, ascending."""
        return sorted({w.bits for layer in self.layers for w in layer.weights})

    @property
    def mac_precisions(self) -> list[int]:
        """The precisions of MACs that occur, ascending."""
        macs = [mac for layer in self.layers for mac in layer.macs]
        found = sorted({m.precision for m in macs if m.precision is not None})
        # Unknown MACs of unknown precision need a column to show their "?" in.
        return found or ([FLOAT_BITS] if macs else [])

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON types; None stands for what is not known."""
        return {
            "name": self.name,
            "parameters": self.parameter_count(),
            "trainable_parameters": self.parameter_count(trainable=True),
            "non_trainable_parameters": self.parameter_count(trainable=False),
            "parameters_by_bits": {
                str(bits): self.parameter_count(bits) for bits in self.weight_bits
            },
            "memory_bits": self.memory,
            "float32_memory_bits": self.float_memory,
            "macs": self.mac_count(),
            "macs_by_precision": {
                str(bits): self.mac_count(bits) for bits in self.mac_precisions
            },
            "layers": [layer.to_dict() for layer in self.layers],
            "notes": list(self.notes),
        }

    def tables(self, include_macs: bool = True) -> tuple[Table, Table]:
        """A table with one row a layer, and one of the whole model."""
        return layers_table(self, include_macs), summary_table(self, include_macs)


def layers_table(profile: ModelProfile, include_macs: bool = True) -> Table:
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
    return Table(f"{profile.name} stats", header, rows, footer)


def summary_table(profile: ModelProfile, include_macs: bool = True) -> Table:
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
    return Table(f"{profile.name} summary", (), rows, notes=profile.notes)


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
