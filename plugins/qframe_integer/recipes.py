"""What an integer unit wants of a whole model."""

from __future__ import annotations

import qframe as qf
from qframe.registry.identifier import Identifier
from qframe.validation import integer_within


def integer_inference(
    weight_bits: int = 8, input_bits: int = 8, gather: str = "moving_average"
) -> qf.Recipe:
    """Weights symmetric and by output channel; inputs with a zero point and one range.

    The ranges of inputs are gathered in training, or set by `qframe.calibrate`. A layer
    whose input is integer already, such as an embedding, keeps it.

    Args:
        weight_bits: from 2 to 16. Default 8.
        input_bits: from 2 to 16. Default 8.
        gather: how ranges are gathered in training, ``"moving_average"`` or ``"widest"``.

    Raises:
        ArgumentError: an argument is none of these.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> print(len(qf.quantize(model, "integer_inference(weight_bits=4)").quantized))
        1

    Paper: Jacob et al., 2017, https://arxiv.org/abs/1712.05877
    """
    name = "integer_inference"
    weight = {
        "bits": integer_within(name, "weight_bits", weight_bits, 2, 16),
        "granularity": "channel",
        "narrow_range": True,
    }
    given = {
        "bits": integer_within(name, "input_bits", input_bits, 2, 16),
        "symmetric": False,
        "gather": gather,
    }
    words = {
        "weight_quantizer": str(Identifier("integer", "integer", weight)),
        "input_quantizer": str(Identifier("integer", "integer", given)),
    }
    return qf.Recipe(
        words,
        name=name,
        summary="integer weights by output channel, and integer inputs with ranges",
    )
