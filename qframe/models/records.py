"""What a model costs, as plain records."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

FLOAT_BITS = 32


@attrs.frozen
class WeightProfile:
    """A variable as it is stored for inference.

    Args:
        name: the name of the variable.
        shape: its shape.
        bits: the bits of one element: what its quantizer declares, else its dtype's.
        trainable: whether the optimizer changes it.
        scale_bits: what the scales and zero points take that its quantizer computes.
            Default 0.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    trainable: bool
    scale_bits: int = 0

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def memory(self) -> int:
        """The size in bits."""
        return self.memory_within()

    def memory_within(self, most_bits: int | None = None) -> int:
        """The size in bits with no element above `most_bits`."""
        return self.count * min(self.bits, most_bits or self.bits) + self.scale_bits


@attrs.frozen
class MacProfile:
    """Multiply-accumulate operations of one precision for one sample.

    Args:
        precision: the larger of the bits of the two factors; None where not known.
        count: how many; None where it depends on what is not known.
    """

    precision: int | None
    count: int | None


@attrs.frozen
class Tally:
    """A sum that says whether some of its terms were not known."""

    known: int
    complete: bool = True

    @classmethod
    def of(cls, terms: Iterable[int | None]) -> Tally:
        """Sum the known terms."""
        listed = list(terms)
        known = [term for term in listed if term is not None]
        return cls(sum(known), len(known) == len(listed))

    @property
    def value(self) -> int | None:
        """The sum; None where a term is not known."""
        return self.known if self.complete else None


@attrs.frozen
class LayerProfile:
    """What one layer costs.

    Args:
        name: the path of the layer, such as ``"encoder/dense"``.
        kind: the name of its class.
        input_precision: the bits of its quantized input; None where the input is not
            quantized, ``"?"`` where its quantizer declares no precision, and a list in
            text such as ``"1, -"`` where its calls differ.
        output_shapes: each shape that it returns, None in it for an unknown dimension;
            None for a shape that is not known.
        weights: its variables, without those that an earlier layer shares.
        macs: its multiply-accumulate operations by precision, over all of its calls.
        built: whether it has its variables; a layer that was never called may not.
    """

    name: str
    kind: str
    input_precision: int | str | None
    output_shapes: tuple[tuple[int | None, ...] | None, ...]
    weights: tuple[WeightProfile, ...]
    macs: tuple[MacProfile, ...]
    built: bool = True

    def parameter_count(
        self, bits: int | None = None, trainable: bool | None = None
    ) -> int | None:
        """The number of parameters, or of those that match; None where not built."""
        if not self.built:
            return None
        return sum(
            weight.count
            for weight in self.weights
            if bits in (None, weight.bits) and trainable in (None, weight.trainable)
        )

    @property
    def memory(self) -> int | None:
        """The size of the weights in bits; None where not built."""
        return self.memory_within()

    def memory_within(self, most_bits: int | None = None) -> int | None:
        """The size in bits with no weight above `most_bits`; None where not built."""
        if not self.built:
            return None
        return sum(weight.memory_within(most_bits) for weight in self.weights)

    def mac_count(self, precision: int | None = None) -> int | None:
        """The number of MACs (of one precision); None where not known."""
        return self.mac_tally(precision).value

    def mac_tally(self, precision: int | None = None) -> Tally:
        """`mac_count` with the part that is known."""
        return Tally.of(
            mac.count
            for mac in self.macs
            if precision is None or mac.precision in (None, precision)
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "name": self.name,
            "kind": self.kind,
            "input_precision": self.input_precision,
            "output_shapes": [s and list(s) for s in self.output_shapes],
            "built": self.built,
            "parameters": self.parameter_count(),
            "memory_bits": self.memory,
            "macs": [attrs.asdict(mac) for mac in self.macs],
            "weights": [
                {**attrs.asdict(weight), "shape": list(weight.shape)}
                for weight in self.weights
            ],
        }


@attrs.frozen
class ModelProfile:
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

    def __rich__(self) -> Any:
        from qframe.models import grids, tables

        both = grids.layers_grid(self), grids.summary_grid(self)
        return tables.RichTables(both)

    def _repr_html_(self) -> str:
        from qframe.models import grids, tables

        both = grids.layers_grid(self), grids.summary_grid(self)
        return "\n".join(grid.to_html() for grid in both)
