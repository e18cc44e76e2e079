"""Records of the cost of a model."""

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
        bits: the bits of one element, from its quantizer or else from its dtype.
        trainable: whether the optimizer changes it.
        scale_bits: the bits of the scales and zero points that its quantizer computes.
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
        """Return the size in bits with at most `most_bits` per element."""
        return self.count * min(self.bits, most_bits or self.bits) + self.scale_bits


@attrs.frozen
class MacProfile:
    """Multiply-accumulate operations of one precision for one sample.

    Args:
        precision: the larger of the bits of the two factors; None where not known.
        count: the number of operations; None where not known.
    """

    precision: int | None
    count: int | None


@attrs.frozen
class Tally:
    """A sum of the known terms, and whether all terms are known."""

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
    """The cost of one layer.

    Args:
        name: the path of the layer, such as ``"encoder/dense"``.
        kind: the name of its class.
        input_precision: the bits of its quantized input; None where the input is not
            quantized, ``"?"`` where its quantizer declares no precision, and a list in
            text such as ``"1, -"`` where its calls differ.
        output_shapes: the shapes of its outputs, with None for an unknown dimension or
            shape.
        weights: its variables, without those that an earlier layer shares.
        macs: its multiply-accumulate operations by precision, over all of its calls.
        built: whether it has its variables, which a layer that was never called may lack.
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
        """Return the number of parameters that match; None where not built."""
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
        """Return the size with at most `most_bits` per weight; None where not built."""
        if not self.built:
            return None
        return sum(weight.memory_within(most_bits) for weight in self.weights)

    def mac_count(self, precision: int | None = None) -> int | None:
        """Return the number of MACs (of one precision); None where not known."""
        return self.mac_tally(precision).value

    def mac_tally(self, precision: int | None = None) -> Tally:
        """Return `mac_count` with the known part of the sum."""
        return Tally.of(
            mac.count
            for mac in self.macs
            if precision is None or mac.precision in (None, precision)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return {
            "name": self.name,
            "kind": self.kind,
            "input_precision": self.input_precision,
            "output_shapes": [s and list(s) for s in self.output_shapes],
            "built": self.built,
            "parameters": self.parameter_count(),
            "memory_bits": self.memory,
            "macs": [attrs.asdict(mac) for mac in self.macs],
            "weights": [{**attrs.asdict(w), "shape": list(w.shape)} for w in self.weights],
        }
