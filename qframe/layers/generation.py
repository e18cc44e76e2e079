"""Generation of quantized classes, with their signatures and docstrings."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from qframe import keras_internals
from qframe.layers.adapters import Adapter, slot_attribute
from qframe.layers.arguments import resolve
from qframe.layers.quantized import Quantized
from qframe.layers.substitution import Substitutable, WeightAttribute


@functools.cache
def quantized_class(base: Any, adapter: Adapter) -> Any:
    """The subclass of a Keras layer class that has slots.

    Float and quantized checkpoints are interchangeable, since it keeps the ``__name__`` of
    its base, by which Keras finds a layer in a weight file. Its qualified name is
    ``Quant<base>``.
    """
    name = f"Quant{base.__name__}"
    keywords = [slot_attribute(slot) for slot in adapter.slots]

    @functools.wraps(base.__init__)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        quantizers = {
            slot: resolve(cls, slot_attribute(slot), kwargs.pop(slot_attribute(slot), None))
            for slot in adapter.slots
        }
        pad_values = kwargs.pop("pad_values", 0.0) if adapter.pads else 0.0
        kwargs = {key: resolve(cls, key, value) for key, value in kwargs.items()}
        if kwargs.get("name") is None and type(self) is cls:
            kwargs["name"] = keras_internals.auto_name(name)
        base.__init__(self, *args, **kwargs)
        self._init_slots(quantizers, pad_values)

    @functools.wraps(base.call)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._quantized_call(base, *args, **kwargs)

    attributes: dict[str, Substitutable] = {
        weight.attribute: WeightAttribute(base, weight.attribute)
        for weight in adapter.weights
    }
    if adapter.pads:
        keywords.append("pad_values")
        attributes["padding"] = Substitutable(base, "padding")
    if adapter.activates:
        attributes["activation"] = Substitutable(base, "activation")
    namespace = {
        "__init__": __init__,
        "call": call,
        "__module__": "qframe.layers",
        "__qualname__": name,
        "__doc__": _docstring(base, name, keywords),
        "float_class": base,
        "adapter": adapter,
        "first_argument": list(inspect.signature(base.call).parameters)[1],
        **attributes,
    }
    cls = type(base.__name__, (Quantized, base), namespace)
    signature = _signature(base, keywords)
    cls.__signature__ = signature  # type: ignore[attr-defined]
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, *signature.parameters.values()]
    )
    return cls


def _signature(base: Any, keywords: list[str]) -> inspect.Signature:
    """The signature of `base` with the slots as keyword-only arguments."""
    parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
    parameters += [
        inspect.Parameter(
            keyword,
            inspect.Parameter.KEYWORD_ONLY,
            default=0.0 if keyword == "pad_values" else None,
        )
        for keyword in keywords
    ]
    # ``**kwargs`` comes last.
    return inspect.Signature(sorted(parameters, key=lambda p: p.kind is p.VAR_KEYWORD))


def _docstring(base: Any, name: str, keywords: list[str]) -> str:
    lines = [
        f"`keras.layers.{base.__name__}` with slots for quantizers.",
        "",
        f"With all quantizers None it equals `keras.layers.{base.__name__}` and shares its",
        "weight files. A quantizer is a name such as ``'ste_sign'``, a",
        "`qframe.quantizers.Quantizer`, any callable, a Keras layer or None.",
        "",
        "Args:",
    ]
    for keyword in keywords:
        if keyword == "pad_values":
            lines.append("    pad_values: what padding='same' pads with, after the input")
            lines.append("        quantizer. Default 0.0.")
        else:
            slot = keyword.removesuffix("_quantizer")
            what = _WHAT.get(slot, f"the {slot}")
            lines.append(f"    {keyword}: quantizer of {what}. Default None.")
    required = [
        f"{parameter.name}={_EXAMPLES[parameter.name]!r}"
        for parameter in inspect.signature(base).parameters.values()
        if parameter.default is parameter.empty and parameter.name in _EXAMPLES
    ]
    weight = next(k for k in keywords if k != "input_quantizer")
    lines += [
        f"    others: as in `keras.layers.{base.__name__}`; constraints and activations",
        "        may be identifiers too, such as ``'weight_clip'``.",
        "",
        "Raises:",
        "    QFrameError: a quantizer or constraint is not known or is misused.",
        "",
        "Example:",
        "    >>> import qframe as qf",
        f"    >>> layer = qf.layers.{name}(",
        f"    ...     {', '.join(required)},",
        f"    ...     {weight}='ste_sign',",
        f"    ...     {weight.removesuffix('_quantizer')}_constraint='weight_clip',",
        "    ... )",
        f"    >>> layer.{weight}",
        "    binary:ste_sign(clip_value=1.0)",
    ]
    return "\n".join(lines)


# Slots whose names do not say what they quantize.
_WHAT = {"preactivation": "what enters the activation"}
# Values for the arguments that Keras requires, in the examples of the docstrings.
_EXAMPLES = {
    "units": 4,
    "filters": 4,
    "kernel_size": 3,
    "equation": "ab,bc->ac",
    "output_shape": 4,
    "input_dim": 10,
    "output_dim": 4,
}
