"""The quantized weights of a model, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import attrs

from qframe.keras_internals import latent_value
from qframe.layers.adapters import Weight
from qframe.layers.quantized import Quantized
from qframe.layers.substitution import latent
from qframe.layers.tree import sites

_W = TypeVar("_W", bound="QuantizedWeight")


@attrs.frozen(eq=False)
class QuantizedWeight:
    """A quantized weight of a model."""

    path: str
    layer: Any
    weight: Weight
    quantizer: Any

    @classmethod
    def of(cls: type[_W], model: Any) -> Iterator[_W]:
        """Those of a model or layer, in call order; a shared layer's once."""
        for site in sites(model):
            layer = site.layer
            if not isinstance(layer, Quantized):
                continue
            held = layer.quantizers
            for weight in layer.adapter.weights:
                quantizer = held.get(weight.prefix)
                if quantizer is not None and latent(layer, weight.attribute) is not None:
                    yield cls(f"{site.path}/{weight.attribute}", layer, weight, quantizer)

    @property
    def channel_axis(self) -> Any:
        """The axes of its output channels."""
        return self.weight.channel_axis_of(self.layer)

    def latent(self) -> Any:
        """The latent values."""
        return latent_value(latent(self.layer, self.weight.attribute))

    def values(self) -> Any:
        """The quantized values."""
        return self.layer.value_of(self.weight)
