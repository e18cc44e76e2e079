"""Values and gradients of a function on the current backend, in each execution mode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

Array = NDArray[Any]

MODES: tuple[str, ...] = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "graph"),
}.get(keras.backend.backend(), ("eager",))


def value_and_gradient(
    function: Callable[[Any], Any], x: Array, upstream: Array, mode: str = "eager"
) -> tuple[Array, Array]:
    """``function(x)`` and the gradient of ``sum(upstream * function(x))``."""
    run = compiled_gradient(function, mode)
    value, gradient = run(to_tensor(x), to_tensor(upstream))
    return to_numpy(value), to_numpy(gradient)


def compiled_gradient(function: Callable[[Any], Any], mode: str) -> Callable[..., Any]:
    """A function of tensors, ``(x, upstream) -> (value, gradient)``, for a mode."""
    compilers: dict[str, Callable[..., Callable[..., Any]]]
    compilers = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return compilers[keras.backend.backend()](function, mode)


def to_tensor(x: Array) -> Any:
    """A float tensor that keeps the dtype of `x`."""
    return ops.convert_to_tensor(x, dtype=str(x.dtype))


def to_numpy(tensor: Any) -> Array:
    """A tensor as an array; bfloat16, which NumPy lacks, becomes float32."""
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor))


# Bounded, since an entry keeps the quantizer alive.
@functools.lru_cache(maxsize=64)
def _tensorflow(function: Callable[[Any], Any], mode: str) -> Callable[..., Any]:
    import tensorflow as tf

    def run(x: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=upstream)

    return run if mode == "eager" else tf.function(run, jit_compile=mode == "xla")


@functools.lru_cache(maxsize=64)
def _jax(function: Callable[[Any], Any], mode: str) -> Callable[..., Any]:
    import jax

    def run(x: Any, upstream: Any) -> Any:
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(upstream)[0]

    return jax.jit(run) if mode == "graph" else run


def _torch(function: Callable[[Any], Any], mode: str) -> Callable[..., Any]:
    def run(x: Any, upstream: Any) -> Any:
        x = x.requires_grad_()
        y = function(x)
        y.backward(upstream)
        return y.detach(), x.grad

    return run
