"""A script as Larq users write them, with the import as its only change.

`tf.keras`, `input_shape=`, quantizers as strings, shared `**kwargs`: the network of Larq's
introductory tutorial (https://docs.larq.dev/larq/tutorials/mnist/).
"""

import sys

import numpy as np
import tensorflow as tf

import qframe as lq

path, seed, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tf.keras.utils.set_random_seed(seed)
data = np.load(path)
images = {k: data[f"x_{k}"].reshape((-1, 28, 28, 1)) / 127.5 - 1 for k in ("train", "test")}
labels = {k: data[f"y_{k}"] for k in ("train", "test")}

kernel = dict(kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False)
kwargs = dict(input_quantizer="ste_sign", **kernel)

model = tf.keras.models.Sequential()
model.add(lq.layers.QuantConv2D(32, (3, 3), input_shape=(28, 28, 1), **kernel))
model.add(tf.keras.layers.MaxPooling2D((2, 2)))
model.add(tf.keras.layers.BatchNormalization(scale=False))
model.add(lq.layers.QuantConv2D(64, (3, 3), **kwargs))
model.add(tf.keras.layers.MaxPooling2D((2, 2)))
model.add(tf.keras.layers.BatchNormalization(scale=False))
model.add(lq.layers.QuantConv2D(64, (3, 3), **kwargs))
model.add(tf.keras.layers.BatchNormalization(scale=False))
model.add(tf.keras.layers.Flatten())
model.add(lq.layers.QuantDense(64, **kwargs))
model.add(tf.keras.layers.BatchNormalization(scale=False))
model.add(lq.layers.QuantDense(10, **kwargs))
model.add(tf.keras.layers.BatchNormalization(scale=False))
model.add(tf.keras.layers.Activation("softmax"))
lq.models.summary(model)

model.compile(
    optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
)
history = model.fit(
    images["train"], labels["train"], batch_size=64, epochs=epochs, verbose=0
)
_, accuracy = model.evaluate(images["test"], labels["test"], verbose=0)
print(f"train accuracy {history.history['accuracy'][-1]:.4f}")
print(f"test accuracy {accuracy:.4f}")
