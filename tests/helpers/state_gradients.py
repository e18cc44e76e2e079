"""The gradients of what a quantizer or layer learns, on the backend in use."""

import keras
import numpy as np

from qframe.quantizers.differentiation import to_numpy, to_tensor


def state_gradients(layer, x, upstream, mode="eager"):
    """Of ``sum(upstream * layer(x))``, for each variable that learns, by its name.

    Args:
        layer: built.
        x: an array.
        upstream: an array of the shape of ``layer(x)``.
        mode: one of `qframe.quantizers.differentiation.MODES`.
    """
    backend = keras.backend.backend()
    run = globals()[f"_{backend}"]
    gradients = run(layer, to_tensor(x), to_tensor(upstream), mode)
    names = [variable.name for variable in layer.trainable_variables]
    return {n: np.asarray(to_numpy(g)) for n, g in zip(names, gradients, strict=True)}


def _loss(y, upstream):
    return keras.ops.sum(upstream * y)


def _tensorflow(layer, x, upstream, mode):
    import tensorflow as tf

    variables = [variable.value for variable in layer.trainable_variables]

    def run(x, upstream):
        with tf.GradientTape() as tape:
            loss = _loss(layer(x), upstream)
        return tape.gradient(loss, variables)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla")
    return run(x, upstream)


def _jax(layer, x, upstream, mode):
    import jax

    fixed = [variable.value for variable in layer.non_trainable_variables]

    def loss(values):
        y, _ = layer.stateless_call(values, fixed, x)
        return _loss(y, upstream)

    gradient = jax.grad(loss)
    if mode == "graph":
        gradient = jax.jit(gradient)
    return gradient([variable.value for variable in layer.trainable_variables])


def _torch(layer, x, upstream, mode):
    assert mode == "eager"
    for variable in layer.trainable_variables:
        variable.value.grad = None
    _loss(layer(x), upstream).backward()
    return [variable.value.grad for variable in layer.trainable_variables]
