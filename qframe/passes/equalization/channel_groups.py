"""Groups of layers that share a positive scale of each channel, and their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from qframe.passes.equalization.places import Place
from qframe.passes.weights import Channels


@attrs.frozen(eq=False)
class Part:
    """A weight of a layer, and the channel of each of its entries.

    Args:
        layer: the layer.
        variable: the weight.
        channels: the numbers of the channels, in a shape that broadcasts to the weight.
        offset: what is added to the weight where it is used, as 1 in ``x * (1 + scale)``.
    """

    layer: Any
    variable: Any
    channels: Channels
    offset: float = 0.0


@attrs.frozen(eq=False)
class Maker:
    """A layer that makes channels, and can divide them by a scale.

    Args:
        layer: a layer of products or a normalization.
        parts: the weights to divide.
        kernel: which of them is multiplied with inputs; None for a normalization.
    """

    layer: Any
    parts: tuple[Part, ...]
    kernel: Part | None = None


@attrs.frozen(eq=False)
class Reader:
    """A layer of products that reads channels, and can multiply them with a scale.

    Args:
        layer: the layer.
        kernel: the weight to multiply.
        place: the channels in its input.
    """

    layer: Any
    kernel: Part
    place: Place


@attrs.frozen(eq=False)
class Group:
    """Layers that share the scale of each channel: all that make or read a tensor.

    Args:
        makers: the layers that make the channels.
        readers: the layers that read them.
        count: the number of channels.
    """

    makers: tuple[Maker, ...]
    readers: tuple[Reader, ...]
    count: int

    def parts(self) -> Iterator[tuple[Part, bool]]:
        """The weights of the group, and whether they are divided."""
        for maker in self.makers:
            yield from ((part, True) for part in maker.parts)
        yield from ((reader.kernel, False) for reader in self.readers)
