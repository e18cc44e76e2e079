"""A script of Larq, that runs with Larq and with qframe."""


def many_layers(keras, lq):
    """Every kind of layer that Larq quantizes and Keras 3 has, and a model in a model."""
    layers, quant = keras.layers, lq.layers
    binary = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    depthwise = {
        "depthwise_quantizer": "ste_sign",
        "depthwise_constraint": "weight_clip",
    }
    separable = {
        **depthwise,
        "pointwise_quantizer": "ste_sign",
        "pointwise_constraint": "weight_clip",
    }
    inner = keras.Sequential(
        [
            keras.Input((4,)),
            layers.BatchNormalization(),
            quant.QuantDense(6, **binary),
            layers.BatchNormalization(),
            quant.QuantDense(4, **binary),
        ]
    )
    images = keras.Input((8, 8, 2))
    x = quant.QuantConv2D(4, 3, padding="same", pad_values=1.0, **binary)(images)
    x = quant.QuantDepthwiseConv2D(3, padding="same", **depthwise)(x)
    x = quant.QuantSeparableConv2D(4, 3, padding="same", **separable)(x)
    x = quant.QuantConv2DTranspose(4, 2, strides=2, **binary)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = quant.QuantConv3D(2, 2, **binary)(layers.Reshape((4, 8, 8, 4))(x))
    x = quant.QuantConv3DTranspose(2, 2, **binary)(x)
    x = layers.Reshape((32, 16))(x)
    x = quant.QuantConv1D(4, 3, **binary)(x)
    x = quant.QuantSeparableConv1D(4, 3, **separable)(x)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.LayerNormalization()(x)
    x = layers.GRU(4)(x)
    return keras.Model(images, inner(inner(x)))
