"""The properties of each Keras layer that qframe supports, one row for each.

To support a layer, add or complete its row. It names the functions that count and lower,
which depend on this module: counters in `qframe.models.kernels` and
`qframe.models.sequences`, lowerings in `qframe.deployment.lowering`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import keras

from qframe.keras_internals import (
    ConvLSTMCell,
    CustomScaleLayer,
    LayerScale,
    StochasticDepth,
)
from qframe.quantizers.channels import ChannelAxis

Value = TypeVar("Value")

# Attribute, prefix and channel axis of a weight, as `qframe.layers.Weight` has them.
WeightRow = tuple[str, str, ChannelAxis | Callable[[Any], ChannelAxis]]


@attrs.frozen
class LayerRow:
    """The properties of a layer class.

    Args:
        weights: the weights that can be quantized, each with its channel axis.
        explicit: whether it has an explicit class, such as ``QuantDense``.
        pads: whether it takes ``pad_values``.
        activates: whether its call ends with the function ``activation``.
        folded: weights that deployment folds into the bias of the layer before.
        counter: the function that counts its multiply-accumulates; None for a layer that
            is counted as its parts, or by its weights.
        opaque: whether its slots are those of its parts alone, as of a recurrent layer,
            whose cell has them.
        lowering: the function that adds it to a deployment graph; None for a layer that
            cannot be lowered.
        refusal: why it cannot be lowered, and what can be done; None for the general text.
    """

    weights: tuple[WeightRow, ...] = ()
    explicit: bool = False
    pads: bool = False
    activates: bool = False
    folded: tuple[WeightRow, ...] = ()
    counter: str | None = None
    opaque: bool = False
    lowering: str | None = None
    refusal: str | None = None


def _einsum_output_axes(layer: Any) -> ChannelAxis:
    """The kernel axes of an EinsumDense that appear in its output."""
    operands, output = layer.equation.replace(" ", "").split("->")
    kernel = operands.split(",")[1].replace("...", "")
    return tuple(axis for axis, label in enumerate(kernel) if label in output)


_BIAS: WeightRow = ("bias", "bias", None)
_KERNEL: WeightRow = ("kernel", "kernel", -1)
_DENSE = (_KERNEL, _BIAS)
_EINSUM = (("kernel", "kernel", _einsum_output_axes), _BIAS)
# Keras names the kernel of a depthwise convolution `kernel` and its arguments
# `depthwise_*`. The shape of this kernel is (..., channels, multiplier), that of a
# transposed convolution (..., output channels, input channels).
_DEPTHWISE = (("kernel", "depthwise", (-2, -1)), _BIAS)
_TRANSPOSED = (("kernel", "kernel", -2), _BIAS)
_SEPARABLE = (
    ("depthwise_kernel", "depthwise", (-2, -1)),
    ("pointwise_kernel", "pointwise", -1),
    _BIAS,
)
# The row of a token is looked up, and multiplied with by a tied reversible embedding.
_EMBEDDINGS = (("embeddings", "embeddings", 0),)
# The second one multiplies on the way back; a tied embedding has none.
_REVERSIBLE = (*_EMBEDDINGS, ("reverse_embeddings", "reverse_embeddings", -1))
# The weights of a recurrent layer are those of its cell.
_CELL = (_KERNEL, ("recurrent_kernel", "recurrent", -1), _BIAS)


def _products(
    weights: tuple[WeightRow, ...],
    counter: str,
    lowering: str | None = None,
    pads: bool = False,
) -> LayerRow:
    return LayerRow(weights, True, pads, True, counter=counter, lowering=lowering)


def _no_products(lowering: str | None = None) -> LayerRow:
    """A layer with weights or quantizers that does not multiply two vectors."""
    return LayerRow(counter="no_macs", lowering=lowering)


_ATTENDS = (
    "the target has no such attention. Replace it with keras.layers.Attention or "
    "MultiHeadAttention, or export what is before or after it"
)
_RECURS = (
    "the target has no such cell, which is repeated for each step. Replace it with "
    "keras.layers.LSTM, GRU or SimpleRNN, with convolutions, or export what is before or "
    "after it"
)
_UNKNOWN = LayerRow(counter="unknown")
_RECURRENT = LayerRow(counter="recurrent", opaque=True, lowering="recurrent")
_CONV_LSTM = LayerRow(counter="convolutional_recurrent", refusal=_RECURS)
_ATTENTION = LayerRow(counter="multi_head_attention", refusal=_ATTENDS)
_IDENTITY = LayerRow(lowering="identity")

_ROWS: Mapping[str, LayerRow] = {
    "Activation": _no_products("activation"),
    "ActivityRegularization": _IDENTITY,
    "Add": LayerRow(lowering="add"),
    # The layers with an unknown count have rare products, without a formula here.
    "AdditiveAttention": LayerRow(counter="unknown", refusal=_ATTENDS),
    "AlphaDropout": _IDENTITY,
    "Attention": LayerRow(counter="attention", lowering="dot_product_attention"),
    "Average": LayerRow(lowering="average"),
    "AveragePooling1D": LayerRow(lowering="average_pooling"),
    "AveragePooling2D": LayerRow(lowering="average_pooling"),
    "BatchNormalization": LayerRow(
        folded=(("beta", "beta", None),), counter="no_macs", lowering="batch_normalization"
    ),
    "Bidirectional": LayerRow(opaque=True, lowering="bidirectional"),
    "Concatenate": LayerRow(lowering="concatenate"),
    "ConvLSTM1D": _CONV_LSTM,
    "ConvLSTM2D": _CONV_LSTM,
    "ConvLSTM3D": _CONV_LSTM,
    "Dense": _products(_DENSE, "dense", "dense"),
    "EinsumDense": _products(_EINSUM, "einsum_dense", "einsum_dense"),
    "Embedding": LayerRow(
        _EMBEDDINGS, explicit=True, counter="no_macs", lowering="embedding"
    ),
    "Conv1D": _products(_DENSE, "convolution", "convolution", pads=True),
    "Cropping1D": LayerRow(lowering="cropping"),
    "Cropping2D": LayerRow(lowering="cropping"),
    "Conv2D": _products(_DENSE, "convolution", "convolution", pads=True),
    "Conv3D": _products(_DENSE, "convolution", pads=True),
    "Conv1DTranspose": _products(
        _TRANSPOSED, "transposed_convolution", "transposed_convolution"
    ),
    "Conv2DTranspose": _products(
        _TRANSPOSED, "transposed_convolution", "transposed_convolution"
    ),
    "Conv3DTranspose": _products(_TRANSPOSED, "transposed_convolution"),
    "DepthwiseConv1D": _products(_DEPTHWISE, "convolution", "depthwise", pads=True),
    "DepthwiseConv2D": _products(_DEPTHWISE, "convolution", "depthwise", pads=True),
    "Dot": LayerRow(counter="dot", lowering="dot"),
    "Dropout": _IDENTITY,
    "ELU": LayerRow(lowering="elu"),
    "Flatten": LayerRow(lowering="reshape"),
    "GaussianDropout": _IDENTITY,
    "GaussianNoise": _IDENTITY,
    "GlobalAveragePooling1D": LayerRow(lowering="global_average"),
    "GlobalAveragePooling2D": LayerRow(lowering="global_average"),
    "GlobalAveragePooling3D": LayerRow(lowering="global_average"),
    "GlobalMaxPooling1D": LayerRow(lowering="global_maximum"),
    "GlobalMaxPooling2D": LayerRow(lowering="global_maximum"),
    "GlobalMaxPooling3D": LayerRow(lowering="global_maximum"),
    "GroupNormalization": _no_products("group_normalization"),
    "GroupQueryAttention": _ATTENTION,
    "GRU": _RECURRENT,
    "GRUCell": LayerRow(_CELL),
    "Identity": _IDENTITY,
    "Lambda": LayerRow(
        refusal="its call is code, which is not exported. Write it with keras.ops or layers"
    ),
    "LayerNormalization": _no_products("layer_normalization"),
    "LeakyReLU": LayerRow(lowering="leaky_relu"),
    "LSTM": _RECURRENT,
    "LSTMCell": LayerRow(_CELL),
    "Masking": LayerRow(
        refusal="it hides steps from later layers, which the target cannot do. Leave it "
        "out, and give the model sequences of one length"
    ),
    "MaxPooling1D": LayerRow(lowering="max_pooling"),
    "MaxPooling2D": LayerRow(lowering="max_pooling"),
    "Maximum": LayerRow(lowering="maximum"),
    "MelSpectrogram": _UNKNOWN,
    "Minimum": LayerRow(lowering="minimum"),
    "MultiHeadAttention": LayerRow(
        counter="multi_head_attention", lowering="multi_head_attention"
    ),
    "Multiply": LayerRow(lowering="multiply"),
    "Normalization": _no_products("normalization"),
    "Permute": LayerRow(lowering="permute"),
    "PReLU": _no_products("prelu"),
    "ReLU": LayerRow(lowering="relu"),
    "Rescaling": LayerRow(lowering="rescaling"),
    "RepeatVector": LayerRow(lowering="repeat_vector"),
    "Reshape": LayerRow(lowering="reshape"),
    "ReversibleEmbedding": LayerRow(_REVERSIBLE, counter="reversible_embedding"),
    "RMSNormalization": _no_products("rms_normalization"),
    "RNN": LayerRow(counter="recurrent", refusal=_RECURS),
    "SeparableConv1D": _products(
        _SEPARABLE, "separable_convolution", "separable", pads=True
    ),
    "SeparableConv2D": _products(
        _SEPARABLE, "separable_convolution", "separable", pads=True
    ),
    "SimpleRNN": _RECURRENT,
    "SimpleRNNCell": LayerRow(_CELL),
    "Softmax": LayerRow(lowering="softmax"),
    "SpatialDropout1D": _IDENTITY,
    "SpatialDropout2D": _IDENTITY,
    "SpatialDropout3D": _IDENTITY,
    "SpectralNormalization": _no_products(),
    "STFTSpectrogram": _UNKNOWN,
    "Subtract": LayerRow(lowering="subtract"),
    "TimeDistributed": LayerRow(
        refusal="it calls its layer for each step, and the target has no loop of layers. "
        "Give the whole sequence to Dense, EinsumDense or a convolution, which compute "
        "each step alike"
    ),
    "UpSampling1D": LayerRow(lowering="up_sampling"),
    "UpSampling2D": LayerRow(lowering="up_sampling"),
    "ZeroPadding1D": LayerRow(lowering="zero_padding"),
    "ZeroPadding2D": LayerRow(lowering="zero_padding"),
}

# Classes without a public name: a cell, and the layers of networks in keras.applications.
_PRIVATE: Mapping[type, LayerRow] = {
    ConvLSTMCell: LayerRow(_CELL),
    CustomScaleLayer: LayerRow(lowering="scaled_residual"),
    LayerScale: _no_products("layer_scale"),
    StochasticDepth: _IDENTITY,
}

# Older versions of Keras lack some of them.
TABLE: Mapping[type, LayerRow] = {
    **{
        getattr(keras.layers, name): row
        for name, row in _ROWS.items()
        if hasattr(keras.layers, name)
    },
    **_PRIVATE,
}


def nearest(table: Mapping[type, Value], cls: type) -> Value | None:
    """The value of a class, or of its nearest base in the table; None without one."""
    return next((table[base] for base in cls.__mro__ if base in table), None)
