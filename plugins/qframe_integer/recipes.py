"""Recipe for integer inference."""

from __future__ import annotations

import qframe as qf
from qframe.registry.identifier import Identifier
from qframe.validation import integer_within


def integer_inference(
    weight_bits: int = 8, input_bits: int = 8, gather: str = "moving_average"
) -> qf.Recipe:
    """Symmetric weights by output channel; inputs with one range and a zero point.

    The ranges of inputs are gathered in training, or set by `qframe.calibrate`. A layer
    with integer input, such as an embedding, keeps it.

    Args:
        weight_bits: from 2 to 16. Default 8.
        input_bits: from 2 to 16. Default 8.
        gather: how ranges are gathered in training, ``"moving_average"`` or ``"widest"``.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> print(len(qf.quantize(model, "integer_inference(weight_bits=4)").quantized))
        1

    Paper: Jacob et al., 2017, https://arxiv.org/abs/1712.05877
    """
    name = "integer_inference"
    weights = {
        "bits": integer_within(name, "weight_bits", weight_bits, 2, 16),
        "granularity": "channel",
        "narrow_range": True,
    }
    inputs = {
        "bits": integer_within(name, "input_bits", input_bits, 2, 16),
        "symmetric": False,
        "gather": gather,
    }
    settings = {
        "weight_quantizer": str(Identifier("integer", "integer", weights)),
        "input_quantizer": str(Identifier("integer", "integer", inputs)),
    }
    return qf.Recipe(
        settings,
        name=name,
        summary="integer weights by output channel, and integer inputs with ranges",
    )
