"""What the methods of equalization have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from qframe.passes.equalization.channel_groups import Group
from qframe.passes.equalization.channel_inputs import ChannelStatistics
from qframe.passes.weights import Array

# By the id of a layer.
Statistics = Mapping[int, ChannelStatistics]
# The function whose arguments the options of methods are.
OWNER = "qframe.equalize"


@attrs.frozen(eq=False)
class Scaling:
    """The scale of each channel of a group.

    Args:
        factors: what readers multiply with, and makers divide by; all positive.
        settings: further texts for the report, by name.
    """

    factors: Array
    settings: Mapping[str, str] = attrs.field(factory=dict)


class Method:
    """A method of equalization: the scale of each channel of groups."""

    #: Whether it needs statistics of the inputs of layers.
    takes_data: ClassVar[bool] = False
    #: Whether a normalization may make the channels of a group.
    takes_norms: ClassVar[bool] = False
    #: Why a group remains as it is where each scale is 1.
    unchanged: ClassVar[str] = ""

    @property
    def sampled_rows(self) -> int:
        """The rows of each example that it needs; 0 for none."""
        return 0

    def refusal(self, group: Group) -> str:
        """Why a group cannot take part; empty where it can."""
        return ""

    def scalings(self, groups: Sequence[Group], statistics: Statistics) -> list[Scaling]:
        """The scales of groups, by the statistics of the inputs of their readers."""
        raise NotImplementedError


def largest_inputs(group: Group, statistics: Statistics) -> Array:
    """The largest input of each channel of a group; 0 where none was seen."""
    result = np.zeros(group.count)
    for reader in group.readers:
        found = statistics.get(id(reader.layer))
        if found is not None:
            np.maximum.at(result, reader.place.channels, found.largest)
    return result
