"""Which layers multiply and accumulate, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from qframe import keras_internals
from qframe.models import kernels, sequences
from qframe.models.calls import Call
from qframe.models.kernels import Product
from qframe.quantizers import Quantizer

Counter = Callable[[Any, Call], Iterable[Product]]


def no_macs(layer: Any, call: Call) -> Iterable[Product]:
    """The counter of layers that multiply no two vectors."""
    return ()


def _unknown(layer: Any, call: Call) -> Iterable[Product]:
    yield Product(input_bits=kernels.input_bits(layer, call))


_COUNTERS: dict[str, Counter] = {
    "Dense": kernels.dense,
    "EinsumDense": kernels.einsum_dense,
    "Conv1D Conv2D Conv3D": kernels.convolution,
    "DepthwiseConv1D DepthwiseConv2D": kernels.convolution,
    "Conv1DTranspose Conv2DTranspose Conv3DTranspose": kernels.transposed_convolution,
    "SeparableConv1D SeparableConv2D": kernels.separable_convolution,
    "ReversibleEmbedding": kernels.reversible_embedding,
    "RNN SimpleRNN GRU LSTM": sequences.recurrent,
    "ConvLSTM1D ConvLSTM2D ConvLSTM3D": sequences.convolutional_recurrent,
    "MultiHeadAttention GroupQueryAttention": sequences.multi_head_attention,
    "Attention": sequences.attention,
    "Dot": sequences.dot,
    # Layers that have weights, or quantizers within, and multiply no two vectors.
    "Activation BatchNormalization Embedding GroupNormalization LayerNormalization "
    "Normalization PReLU RMSNormalization SpectralNormalization": no_macs,
    # Products that are not worth a formula.
    "AdditiveAttention MelSpectrogram STFTSpectrogram": _unknown,
}
COUNTERS: dict[type, Counter] = {
    getattr(keras.layers, name): counter
    for names, counter in _COUNTERS.items()
    for name in names.split()
    if hasattr(keras.layers, name)  # not every Keras has all of them
}
# Operations of `keras.ops` in a functional model, by the names of their classes.
_OPERATIONS: dict[str, Counter] = {
    "Matmul": sequences.matrix_product,
    "Conv": _unknown,
    "ConvTranspose": _unknown,
    "DepthwiseConv": _unknown,
    "Dot": _unknown,
    "DotProductAttention": _unknown,
    "Einsum": _unknown,
    "Inner": _unknown,
    "SeparableConv": _unknown,
    "Tensordot": _unknown,
    "Vdot": _unknown,
}


def counter_of(operation: Any) -> Counter | None:
    """How to count the products of a layer of Keras or of an operation.

    A subclass that has a call of its own is not known.
    """
    if isinstance(operation, Quantizer):
        return no_macs
    if not isinstance(operation, keras.layers.Layer):
        return _OPERATIONS.get(type(operation).__name__)
    base = next((cls for cls in type(operation).__mro__ if cls in COUNTERS), None)
    if base is None:
        return None
    return COUNTERS[base] if keras_internals.runs_keras(operation) else _unknown


def products(layer: Any, call: Call) -> Iterable[Product]:
    """The multiply-accumulate operations of one call of a layer without parts.

    A layer of no class of Keras multiplies if it has weights.
    """
    counter = counter_of(layer)
    if counter is None:
        counter = kernels.adapted if layer.weights else no_macs
    return counter(layer, call)
