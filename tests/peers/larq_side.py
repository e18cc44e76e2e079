"""Networks that Larq builds, with random weights: their files, and what they compute.

Usage: TF_USE_LEGACY_KERAS=1 python larq_side.py FOLDER

``FOLDER/wanted.json`` maps a name to a network: ``{"network": "QuickNet", ...}`` with the
arguments of larq-zoo, or ``{"network": "tutorial"}`` with `metrics` and `whole`. For each
``FOLDER/NAME.h5`` has the weights, and ``FOLDER/NAME.npz`` the images `x`, the outputs
`y`, and of each layer that has weights the inputs and outputs, call by call: `3.0.inputs`
is the first input of the fourth layer. This process does not import qframe.
"""

import collections
import functools
import json
import sys
from pathlib import Path
from unittest import mock

import larq as lq
import numpy as np
import tensorflow as tf
from scripts import many_layers

# larq-zoo imports it to describe data sets, and it needs an old protobuf.
sys.modules["tensorflow_datasets"] = mock.MagicMock()

import larq_zoo as lqz  # noqa: E402


def tutorial():
    """The network of Larq's introductory tutorial."""
    kernel = {
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "use_bias": False,
    }
    both = {"input_quantizer": "ste_sign", **kernel}
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            lq.layers.QuantConv2D(32, (3, 3), input_shape=(28, 28, 1), **kernel),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantConv2D(64, (3, 3), **both),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantConv2D(64, (3, 3), **both),
            layers.BatchNormalization(scale=False),
            layers.Flatten(),
            lq.layers.QuantDense(64, **both),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantDense(10, **both),
            layers.BatchNormalization(scale=False),
            layers.Activation("softmax"),
        ]
    )


def build(network, metrics=False, whole=False, **arguments):
    own = {"tutorial": tutorial, "many_layers": lambda: many_layers(tf.keras, lq)}
    if network in own:
        with lq.context.metrics_scope(["flip_ratio"] if metrics else []):
            return own[network]()
    if "input_shape" in arguments:
        arguments["input_shape"] = tuple(arguments["input_shape"])
    group = lqz.sota if hasattr(lqz.sota, network) else lqz.literature
    return getattr(group, network)(weights=None, **arguments)


def randomize(model, x, rng):
    """Weights of both signs within [-1, 1], and statistics near those of the images `x`.

    Far from them the outputs would be the same for all images, and prove little. But one
    channel in eight has a small variance, beside which an epsilon counts.
    """
    for weight in model.weights:
        name, shape = weight.name, weight.shape
        if "kernel" in name:
            value = np.clip(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), -1, 1)
        elif "gamma" in name:
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(size=shape) * 0.3
        weight.assign(value)
    norms = [
        layer
        for layer in model.submodules
        if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    before = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0
    model(x, training=True)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum
        mean, variance = layer.moving_mean, layer.moving_variance
        variance.assign(variance * rng.uniform(0.8, 1.2, variance.shape) + 1e-3)
        mean.assign(mean + tf.sqrt(variance) * rng.normal(size=mean.shape) * 0.1)
        small = np.where(np.arange(variance.shape[0]) % 8 == 3, 0.05, variance)
        if layer.scale:
            layer.gamma.assign(layer.gamma * np.sqrt(small / variance))
        variance.assign(small)
    *_, last = (layer for layer in model.layers if layer.weights)
    if isinstance(last, tf.keras.layers.Dense):
        logits = tf.keras.Model(model.inputs, last.output)(x)
        for weight in last.weights:
            weight.assign(weight / tf.math.reduce_std(logits))


def with_weights(model):
    """The layers that have weights, those of inner models too, in the order of the file."""
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from with_weights(layer)
        elif layer.weights:
            yield layer


def recorded(model, x):
    """The outputs of a model, and what each layer with weights gets and gives."""
    numbers = {id(layer): number for number, layer in enumerate(with_weights(model))}
    calls, result = collections.Counter(), {}
    call = tf.keras.layers.Layer.__call__

    @functools.wraps(call)
    def record(layer, *args, **kwargs):
        outputs = call(layer, *args, **kwargs)
        if id(layer) in numbers:
            number = numbers[id(layer)]
            key = f"{number}.{calls[number]}"
            calls[number] += 1
            result[f"{key}.inputs"], result[f"{key}.outputs"] = args[0], outputs
        return outputs

    with mock.patch.object(tf.keras.layers.Layer, "__call__", record):
        return {"x": x, "y": model(x, training=False), **result}


def main(folder):
    folder = Path(folder)
    for name, wanted in json.loads((folder / "wanted.json").read_text("utf-8")).items():
        rng = np.random.default_rng(0)
        model = build(**wanted)
        x = rng.normal(size=(4, *model.input_shape[1:])).astype("float32")
        randomize(model, x, rng)
        # All images make the statistics; of two of them every number is written down.
        np.savez(
            folder / f"{name}.npz",
            parameters=model.count_params(),
            **recorded(model, x[:2]),
        )
        if wanted.get("whole"):
            model.compile("adam", "sparse_categorical_crossentropy")
            model.save(folder / f"{name}.h5")
        else:
            model.save_weights(folder / f"{name}.h5")
        tf.keras.backend.clear_session()


if __name__ == "__main__":
    main(*sys.argv[1:])
