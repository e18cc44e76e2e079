"""The quantized weights of a model as integers."""

from __future__ import annotations

from typing import Any

from qframe.errors import ArgumentError, QFrameError
from qframe.layers.slots import weight_slots
from qframe.layers.tree import iter_slots
from qframe.quantizers import Integers, Quantizer
from qframe.quantizers.rounded import Corrected


def integers(model: Any, *, strict: bool = True) -> dict[str, Integers]:
    """Return the integers, scale and zero point of every quantized weight of a model.

    A weight in deployment is ``scale * (values - zero_point)``: see
    `qframe.quantizers.Integers`. Binary weights are +1 and -1 as int8, with a scale of 1
    or that of their quantizer.

    Args:
        model: a built model or layer with quantized layers.
        strict: raise for a quantizer that states no integers, such as a plain function.
            With False its weight is left out.

    Returns:
        The integers by ``<path of the layer>/<attribute>``, such as ``"dense/kernel"``, in
        call order; a shared layer once.

    Raises:
        QFrameError: no weight is quantized; a quantizer states no integers; a weight
            contains NaN or infinity.

    Example:
        >>> import keras, qframe as qf
        >>> dense = keras.layers.Dense(4, name="head")
        >>> model = keras.Sequential([keras.Input((8,)), dense])
        >>> report = qf.quantize(model, {"kernel_quantizer": "ste_sign"})
        >>> kernel = qf.integers(model)["head/kernel"]
        >>> kernel.values.dtype.name, kernel.values.shape, float(kernel.scale)
        ('int8', (8, 4), 1.0)
    """
    by_path: dict[str, Integers] = {}
    without: dict[str, str] = {}
    for slot in iter_slots(model, weight_slots):
        quantizer = slot.quantizer
        if isinstance(quantizer, Corrected) and quantizer.inner is None:
            continue  # a bias in float
        try:
            if not isinstance(quantizer, Quantizer):
                raise QFrameError(f"{quantizer!r} is not a qframe quantizer.")
            by_path[slot.variable_path] = slot.integers()
        except QFrameError as error:
            without[slot.variable_path] = str(error)
    if not by_path and not without:
        raise ArgumentError(
            f"no weight of {model.name!r} is quantized. Quantize it first: "
            "qframe.quantize(model, {'kernel_quantizer': 'ste_sign'})."
        )
    if without and strict:
        reasons = " ".join(f"{path!r}: {reason}" for path, reason in without.items())
        raise QFrameError(
            f"{len(without)} weights have no integers. {reasons} Write strict=False to "
            "leave them out."
        )
    return by_path
