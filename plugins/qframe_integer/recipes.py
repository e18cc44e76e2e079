"""Recipes for integer inference."""

from __future__ import annotations

from typing import Any

import qframe as qf
from qframe.registry.identifier import Identifier
from qframe.validation import integer_within


def int8(gather: str = "moving_average") -> qf.Recipe:
    """8 bits for every tensor, as full-integer runtimes such as LiteRT compute.

    Weights are symmetric by output channel, from -127 to 127. Each tensor that passes
    between the layers of the runtime has one range with a zero point, gathered in training
    or set by `qframe.calibrate`. Biases are multiples of the steps of their sums.

    Args:
        gather: how ranges are gathered in training, ``"moving_average"`` or ``"widest"``.

    Raises:
        ArgumentError: `gather` has another value; in `qframe.quantize`, the model is not
            functional or sequential.

    Example:
        >>> import keras, qframe as qf
        >>> layers = keras.layers.Dense(4), keras.layers.ReLU(name="relu")
        >>> model = keras.Sequential([keras.Input((3,)), *layers])
        >>> report = qf.quantize(model, "int8")
        >>> model.get_layer("relu").output_quantizer.bits
        8

    Paper: Jacob et al., 2017, https://arxiv.org/abs/1712.05877
    """
    return _full("int8", 8, 8, gather)


def w4a8(gather: str = "moving_average") -> qf.Recipe:
    """As `int8`, with weights of 4 bits, from -7 to 7.

    Args:
        gather: as of `int8`.

    Raises:
        ArgumentError: as `int8`.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        >>> report = qf.quantize(model, "w4a8")
        >>> model.layers[0].kernel_quantizer.bits
        4
    """
    return _full("w4a8", 4, 8, gather)


def int16x8(gather: str = "moving_average") -> qf.Recipe:
    """As `int8`, with activations of 16 bits and the zero point 0.

    Args:
        gather: as of `int8`.

    Raises:
        ArgumentError: as `int8`.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        >>> report = qf.quantize(model, "int16x8")
        >>> model.layers[0].output_quantizer.bits
        16
    """
    return _full("int16x8", 8, 16, gather)


def _full(name: str, weight_bits: int, activation_bits: int, gather: str) -> qf.Recipe:
    """The recipe for full-integer inference with these bits."""
    symmetric = activation_bits > 8
    edges = {"bits": activation_bits, "symmetric": symmetric, "gather": gather}
    settings = {
        "weight_quantizer": _weights(weight_bits),
        "bias_quantizer": str(Identifier("integer_bias", "integer")),
        "edge_quantizer": str(Identifier("integer", "integer", edges)),
    }
    summary = (
        f"full-integer inference: weights of {weight_bits} bits, activations of "
        f"{activation_bits}"
    )
    return qf.Recipe(settings, name=name, summary=summary)


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
    inputs = {
        "bits": integer_within(name, "input_bits", input_bits, 2, 16),
        "symmetric": False,
        "gather": gather,
    }
    settings = {
        "weight_quantizer": _weights(
            integer_within(name, "weight_bits", weight_bits, 2, 16)
        ),
        "input_quantizer": str(Identifier("integer", "integer", inputs)),
    }
    return qf.Recipe(
        settings,
        name=name,
        summary="integer weights by output channel, and integer inputs with ranges",
    )


def integer_weights(bits: int = 8) -> qf.Recipe:
    """Symmetric weights by output channel, and everything else in float.

    The range of a channel is the fraction of its numbers' range with the smallest mean
    squared error, which matters below 6 bits. `qframe.sensitivity` measures layers that are
    in float with these quantizers.

    Args:
        bits: from 2 to 16. Default 8.

    Raises:
        ArgumentError: `bits` has another value.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> report = qf.quantize(model, "integer_weights(bits=3)")
        >>> model.layers[0].kernel_quantizer.range
        'mse'
    """
    return _weights_alone("integer_weights", bits)


def w4() -> qf.Recipe:
    """Weights of 4 bits, and everything else in float: `integer_weights` with 4 bits.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> report = qf.quantize(model, "w4")
        >>> model.layers[0].kernel_quantizer.bits
        4
    """
    return _weights_alone("w4", 4)


def _weights_alone(name: str, bits: int) -> qf.Recipe:
    """The recipe for weights of these bits, and everything else in float."""
    settings = {
        "weight_quantizer": _weights(integer_within(name, "bits", bits, 2, 16), range="mse")
    }
    summary = f"integer weights of {bits} bits by output channel, with the least error"
    return qf.Recipe(settings, name=name, summary=summary)


def _weights(bits: int, **others: Any) -> str:
    """The identifier of a quantizer of weights."""
    arguments: dict[str, Any] = {
        "bits": bits,
        "granularity": "channel",
        "narrow_range": True,
        **others,
    }
    return str(Identifier("integer", "integer", arguments))
