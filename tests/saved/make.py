"""Write a file of each kind as this version does: ``python tests/saved/make.py``.

They go to a folder named after the version, which is made once, for its release, with the
oldest Keras that it supports. A folder of a released version is never changed.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

import qframe as qf

FOLDER = Path(__file__).parent / qf.__version__
SIGN = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def mixed():
    """A quantizer of each plugin that has any; state, arguments and a constraint."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, name="stem"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(4, 3, padding="same", name="body"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(name="flatten"),
            layers.Dense(6, name="float"),
            layers.Dense(6, name="fixed"),
            layers.Dense(3, name="head"),
        ]
    )
    given = "integer(symmetric=False, gather='moving_average')"
    qf.quantize(
        model,
        [
            ("re:stem", {"kernel_quantizer": "integer(bits=4)", "input_quantizer": given}),
            ("re:body", {**SIGN, "input_quantizer": "approx_sign"}),
            ("re:depthwise", {"depthwise_quantizer": "ste_tern(threshold_value=0.1)"}),
            ("re:float", {"kernel_quantizer": "float8_e4m3"}),
            ("re:fixed", {"kernel_quantizer": "quantized_bits(4,0,1)"}),
            ("re:head", {"kernel_quantizer": "lsq(bits=3)"}),
        ],
    )
    return model


def binary():
    """A model for the target `packed`."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            qf.layers.QuantConv2D(32, 3, use_bias=False, name="stem", **SIGN),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flatten"),
            qf.layers.QuantDense(3, input_quantizer="ste_sign", name="head", **SIGN),
        ]
    )


def main():
    keras.utils.set_random_seed(0)
    FOLDER.mkdir(exist_ok=True)
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype("float32")
    labels = np.arange(16) % 3
    values = {"x": x}
    for make in (mixed, binary):
        model = make()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(x, labels, epochs=3, verbose=0)
        values[make.__name__] = model.predict(x, verbose=0)
        if make is mixed:
            model.save(FOLDER / "model.keras")
            model.save_weights(FOLDER / "model.weights.h5")
        else:
            qf.export(model, FOLDER / "model.safetensors", target="packed")
    rules = [(qf.first, None), ("re:head", SIGN), (None, {"weight_quantizer": "lsq"})]
    qf.Recipe(rules, summary="all that a rule can say").save(FOLDER / "recipe.toml")
    np.savez_compressed(FOLDER / "values.npz", **values)


if __name__ == "__main__":
    main()
