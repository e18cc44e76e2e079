"""Values and gradients of a function on the backend in use, in each execution mode."""

from __future__ import annotations

import functools

import keras
import numpy as np

MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "graph"),
    "torch": ("eager",),
}[keras.backend.backend()]


def value_and_gradient(function, x, upstream, mode="eager"):
    """``function(x)`` and the gradient of ``sum(upstream * function(x))``, as NumPy."""
    backend = keras.backend.backend()
    value, gradient = globals()[f"_{backend}"](function, x, upstream, mode)
    return _to_numpy(value), _to_numpy(gradient)


def weight_gradient(layer, x):
    """The gradient of ``sum(sin(layer(x)))`` for the first weight of a layer."""

    def loss(y):
        return keras.ops.sum(keras.ops.sin(y))

    first, *rest = layer.trainable_variables
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(layer(x))
        gradient = tf.convert_to_tensor(tape.gradient(value, first.value))
    elif backend == "jax":
        import jax

        def run(w):
            others = [v.value for v in rest]
            fixed = [v.value for v in layer.non_trainable_variables]
            return loss(layer.stateless_call([w, *others], fixed, x)[0])

        gradient = jax.grad(run)(first.value)
    else:
        loss(layer(x)).backward()
        gradient = first.value.grad
    return _to_numpy(gradient)


def to_tensor(x):
    """A float tensor that keeps the dtype of `x`."""
    return keras.ops.convert_to_tensor(x, dtype=str(x.dtype))


def _to_numpy(tensor):
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = keras.ops.cast(tensor, "float32")
    return np.asarray(keras.ops.convert_to_numpy(tensor))


@functools.cache
def _tensorflow_run(function, mode):
    import tensorflow as tf

    def run(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=upstream)

    if mode == "eager":
        return run
    return tf.function(run, jit_compile=mode == "xla")


def _tensorflow(function, x, upstream, mode):
    return _tensorflow_run(function, mode)(to_tensor(x), to_tensor(upstream))


@functools.cache
def _jax_run(function, mode):
    import jax

    def run(x, upstream):
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(upstream)[0]

    return jax.jit(run) if mode == "graph" else run


def _jax(function, x, upstream, mode):
    return _jax_run(function, mode)(to_tensor(x), to_tensor(upstream))


def _torch(function, x, upstream, mode):
    assert mode == "eager"
    x = to_tensor(x).requires_grad_()
    y = function(x)
    y.backward(to_tensor(upstream))
    return y.detach(), x.grad
