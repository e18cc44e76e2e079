"""The accuracy of ways to train the tutorial's network on MNIST, side by side.

The variables QFRAME_SEEDS and QFRAME_EPOCHS set how many (by default 5 seeds, from 0, and
6 epochs). One seed of one epoch takes some minutes on two cores.
"""

import os
import statistics

import keras
import numpy as np
from keras import layers

import qframe as qf
from benchmarks.timing import show
from qframe.cli.quickstart import network

SEEDS = range(int(os.environ.get("QFRAME_SEEDS", "5")))
EPOCHS = int(os.environ.get("QFRAME_EPOCHS", "6"))
BATCH_SIZE = 64
RATE = 3e-3


def float_network(activation):
    """The network without quantizers, with an activation where the other takes signs."""

    def block(layer, *after, activation=activation):
        normalization = layers.BatchNormalization(scale=False)
        return [layer, *after, normalization, layers.Activation(activation)]

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *block(layers.Conv2D(32, 3, use_bias=False), layers.MaxPooling2D()),
            *block(layers.Conv2D(64, 3, use_bias=False), layers.MaxPooling2D()),
            *block(layers.Conv2D(64, 3, use_bias=False)),
            layers.Flatten(),
            *block(layers.Dense(64, use_bias=False)),
            *block(layers.Dense(10, use_bias=False), activation="softmax"),
        ]
    )


def binary_by_bop():
    """The network with binary weights that Bop flips."""
    model = network.build()
    settings = {"kernel_quantizer": "noop(precision=1)", "input_quantizer": "ste_sign"}
    qf.quantize(
        model,
        [(qf.first, {**settings, "input_quantizer": None}), (keras.layers.Layer, settings)],
    )
    return model


def smooth():
    """The network, with the smoother gradient of Bi-Real Net for the same signs."""
    model = network.build()
    settings = {
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "input_quantizer": "approx_sign",
    }
    qf.quantize(model, [(qf.first, None), (keras.layers.Layer, settings)])
    return model


def compiled(model, optimizer):
    jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


def cosine(images):
    steps = EPOCHS * -(-len(images) // BATCH_SIZE)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps))


class Recipes:
    """The ways to train, for one seed."""

    def __init__(self, path, seed):
        data = np.load(path)
        self.seed = seed
        self.x, self.x_test = (
            data[f"x_{k}"].reshape((-1, 28, 28, 1)).astype("float32") / 127.5 - 1
            for k in ("train", "test")
        )
        self.y, self.y_test = data["y_train"], data["y_test"]
        self.teacher = None

    def fit(self, model, *callbacks):
        options = {"batch_size": BATCH_SIZE, "epochs": EPOCHS, "callbacks": callbacks}
        model.fit(self.x, self.y, **options, verbose=0)
        return model

    def accuracy(self, model):
        return model.evaluate(self.x_test, self.y_test, verbose=0)[1]

    def recalibrated(self, model):
        # 40 batches of 250, from anywhere.
        some = np.random.default_rng(self.seed).permutation(len(self.x))[:10000]
        qf.recalibrate_batchnorm(model, self.x[some], batch_size=250, verbose=0)
        return self.accuracy(model)

    def cosine(self, model, *callbacks):
        return self.fit(compiled(model, cosine(self.x)), *callbacks)

    def results(self):
        """The name of each way, and the test accuracy before and after recalibration."""
        for name, train in {
            "binary, plain": lambda: self.fit(network.build()),
            "float with ReLU, cosine": self.best_float,
            "binary, cosine, distilled": lambda: self.distilled(network.build()),
            "binary, cosine, distilled, approx_sign": lambda: self.distilled(smooth()),
            "float, cosine": lambda: self.cosine(float_network("linear")),
            "binary by Bop": self.by_bop,
            "float, plain": lambda: self.fit(compiled(float_network("linear"), "adam")),
            "binary, cosine": lambda: self.cosine(network.build()),
            "binary, cosine, an epoch in float": self.progressive,
        }.items():
            keras.utils.set_random_seed(self.seed)
            model = train()
            yield name, self.accuracy(model), self.recalibrated(model)

    def best_float(self):
        self.teacher = self.cosine(float_network("relu"))
        return self.teacher

    def distilled(self, student):
        return self.cosine(qf.distill(student, self.teacher))

    def progressive(self):
        return self.cosine(network.build(), qf.callbacks.QuantizerDelay(1))

    def by_bop(self):
        bop = qf.optimizers.Bop(threshold=1e-8, gamma=1e-4)
        optimizer = qf.optimizers.CaseOptimizer(
            (qf.optimizers.Bop.is_binary_variable, bop),
            default_optimizer=keras.optimizers.Adam(0.01),
        )
        return self.fit(compiled(binary_by_bop(), optimizer))


def test_accuracy(mnist):
    rows = {}
    for seed in SEEDS:
        for name, before, after in Recipes(mnist, seed).results():
            rows.setdefault(name, []).append((before, after))
            print(
                f"seed {seed}: {name}: {before:.2%}, recalibrated {after:.2%}", flush=True
            )
    show(
        f"the tutorial's network on MNIST, test accuracy, {EPOCHS} epochs, "
        f"{len(SEEDS)} seeds",
        ["recipe", "median", "lowest", "recalibrated: median", "lowest"],
        [
            [
                name,
                *(
                    f"{f(part):.2%}"
                    for part in zip(*actual, strict=True)
                    for f in (statistics.median, min)
                ),
            ]
            for name, actual in rows.items()
        ],
    )
