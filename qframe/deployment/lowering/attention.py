"""The lowering of attention: products of queries and keys, a softmax, and of values."""

from __future__ import annotations

import math
from typing import Any

import keras

from qframe.deployment.graph.operations import Activation
from qframe.deployment.lowering.contracting import add_einsum
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.deployment.lowering.weights import values_of
from qframe.errors import QFrameError
from qframe.layers.slots import filled_slots


def dot_product_attention(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add `keras.layers.Attention` by products."""
    if layer.score_mode != "dot":
        raise QFrameError(
            f"its score_mode is {layer.score_mode!r}. Build it with score_mode='dot'"
        )
    _check_call(tracer)
    query, value, *others = inputs
    (key,) = others or [value]
    scale: Any = 1.0 if layer.scale is None else values_of(layer, "scale")
    scores = add_einsum(tracer, "abc,adc->abd", query, key, float(scale))
    shares = tracer.add(Activation(function="softmax"), scores)
    return add_einsum(tracer, "abd,adc->abc", shares, value)


def multi_head_attention(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add attention with several heads, whose projections are dense layers."""
    named = _check_call(tracer)
    query, value = inputs[named["query"]], inputs[named["value"]]
    key = inputs[named["key"]] if "key" in named else value
    if getattr(layer, "_use_gate", False):
        raise QFrameError("its use_gate=True is not in the target. Build it without")
    softmax = layer._softmax
    if filled_slots(softmax) and not layer.dropout:
        raise QFrameError(
            "its softmax has quantizers, and newer versions of Keras compute it without "
            "this layer unless dropout is above 0. Build the attention from EinsumDense, "
            "keras.ops.einsum and Softmax"
        )
    heads = [
        tracer.part(part, x)
        for part, x in (
            *((layer.query_dense, query), (layer.key_dense, key)),
            (layer.value_dense, value),
        )
    ]
    if len(heads[0].shape) != 3:
        raise QFrameError(
            "it attends to more than one axis. Reshape them to one by keras.layers.Reshape"
        )
    scale = 1 / math.sqrt(layer.key_dim)
    scores = add_einsum(tracer, "abcd,aecd->acbe", heads[0], heads[1], scale)
    shares = tracer.part(softmax, scores)
    mixed = add_einsum(tracer, "acbe,aecd->abcd", shares, heads[2])
    return tracer.part(layer.output_dense, mixed)


def _check_call(tracer: Tracer) -> dict[str, int]:
    """The places of the named inputs of a call, which has no mask."""
    places, others = tracer.call_of_layer()
    masks = [name for name in {*places, *others} if "mask" in name and "causal" not in name]
    given = {*masks} & {*places} or _is_given([others.get(name) for name in masks])
    if given or others.get("use_causal_mask"):
        raise QFrameError("it is called with a mask, which the target does not have")
    if others.get("return_attention_scores"):
        raise QFrameError(
            "it returns its scores too. Call it with return_attention_scores=False"
        )
    return places


def _is_given(masks: list[Any]) -> bool:
    """Return whether there is a mask; older versions of Keras pass lists of None."""
    return any(part is not None for part in keras.tree.flatten(masks))
