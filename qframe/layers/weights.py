"""The quantized weights of a model, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from qframe.keras_internals import latent_value
from qframe.layers.adapters import Weight
from qframe.layers.quantized import Quantized
from qframe.layers.substitution import latent
from qframe.layers.tree import sites


@attrs.frozen(eq=False)
class QuantizedWeight:
    """A quantized weight of a model."""

    path: str
    layer: Any
    weight: Weight
    quantizer: Any

    @property
    def channel_axis(self) -> Any:
        """The axes of its output channels."""
        return self.weight.channel_axis_of(self.layer)

    def latent(self) -> Any:
        """The latent values."""
        return latent_value(latent(self.layer, self.weight.attribute))

    def values(self) -> Any:
        """The quantized values."""
        return self.layer.quantized_weights()[self.weight.attribute]


def weights_with_quantizers(model: Any) -> Iterator[QuantizedWeight]:
    """The quantized weights of a model or layer, in call order; a shared layer's once."""
    for site in sites(model):
        layer = site.layer
        if isinstance(layer, Quantized):
            for weight in layer.adapter.weights:
                quantizer = layer.quantizers.get(weight.prefix)
                if quantizer is not None and latent(layer, weight.attribute) is not None:
                    path = f"{site.path}/{weight.attribute}"
                    yield QuantizedWeight(path, layer, weight, quantizer)
