"""What a quantizer of activations does to numbers, as thresholds."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.errors import QFrameError
from qframe.quantizers import Quantizer
from qframe_packed.operations import Quantize
from qframe_packed.thresholds import Domain, first

_MOST_LEVELS = 2**8
_FAR = np.float32(2.0**100)
_EVERY = Domain.of(None)


@attrs.frozen(eq=False)
class Steps:
    """A quantizer of activations.

    Args:
        operation: the integers that it gives.
        scale: what these are multiplied by.
    """

    operation: Quantize
    scale: float


def steps_of(quantizer: Any) -> Steps:
    """The steps of a quantizer, exact for every float32 number.

    Where they are is asked of the quantizer itself, so that its ties and its rounding are
    its own.

    Raises:
        QFrameError: it takes no fixed steps, or too many of them.
    """
    if not isinstance(quantizer, Quantizer):
        raise QFrameError(f"{quantizer!r} is no qframe quantizer")
    traits = quantizer.traits
    if not (traits.elementwise and traits.monotone):
        raise QFrameError(
            f"{quantizer!r} does not quantize each number by itself, with one scale for "
            "the whole tensor"
        )
    far = np.array([-_FAR, _FAR], np.float32)
    (low, high), scale = _integers(quantizer, far)
    if high - low >= _MOST_LEVELS:
        raise QFrameError(
            f"{quantizer!r} has more than {_MOST_LEVELS} levels, which is the most"
        )
    if not scale > 0 or low == high:
        raise QFrameError(f"{quantizer!r} gives a single value: its range is empty")
    wanted = np.arange(low + 1, high + 1)

    def reached(x: NDArray[Any]) -> NDArray[Any]:
        found, scale_here = _integers(quantizer, x)
        if scale_here != scale:
            raise QFrameError(
                f"{quantizer!r} has no scale of its own yet, but that of the tensor at "
                "hand. Train the model, or write qframe.calibrate(model, data)"
            )
        return np.asarray(found >= wanted)

    thresholds = _EVERY.thresholds(first(reached, _EVERY, wanted.shape))
    # An integer that is stepped over has the threshold of the next one.
    kept = np.append(thresholds[:-1] < thresholds[1:], True)
    levels = np.append(low, wanted[kept])
    step = int(np.gcd.reduce(np.diff(levels)))
    # Where levels are missing in between, each is passed at once.
    places = (wanted - low) % step == 0
    return Steps(
        Quantize(thresholds=thresholds[places], low=int(low), step=step), float(scale)
    )


def _integers(quantizer: Quantizer, x: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """The integers of float32 numbers, with 0 for 0.0, and the scale."""
    # As a batch of one feature: activations have a batch.
    found = quantizer.integers(x.astype(np.float32).reshape(-1, 1))
    if found.scale.size > 1 or found.zero_point.size > 1:
        raise QFrameError(f"{quantizer!r} has more than one scale")
    integers = found.values.astype(np.int64).reshape(-1) - found.zero_point.reshape(())
    return integers, float(found.scale.reshape(()))
