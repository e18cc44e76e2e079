"""Constraints applied to weights."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from qframe.quantizers.differentiation import (
    MODES,
    Array,
    to_numpy,
    to_tensor,
    value_and_gradient,
)
from qframe.testing.check import require
from qframe.testing.checks import of_constraints
from qframe.testing.checks.placement import trained
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import STATE_SHAPE, ConstraintSubject


def _weights() -> list[Array]:
    """Kernels: usual ones, zeros, and one with magnitudes far apart."""
    rng = np.random.default_rng(0)
    usual = rng.normal(size=STATE_SHAPE).astype("float32")
    sizes = np.float32(10.0) ** np.arange(-8, 8, dtype="float32")
    uneven = np.resize(sizes, STATE_SHAPE) * np.sign(usual)
    return [usual, 0 * usual, uneven, rng.normal(size=(2, 3, 3, 4)).astype("float32")]


@of_constraints()
def keeps_shape_and_dtype(subject: ConstraintSubject) -> None:
    """The result has the shape and the dtype of the weight."""
    for w in _weights():
        for dtype in ("float32", "float16", "bfloat16"):
            if dtype == "float16" and np.abs(w).max() > 6e4:
                continue
            result = subject.sample(ops.cast(ops.convert_to_tensor(w), dtype))
            result_dtype = keras.backend.standardize_dtype(result.dtype)
            require(
                tuple(result.shape) == w.shape and result_dtype == dtype,
                f"{dtype} of shape {w.shape} became {result_dtype} of "
                f"{tuple(result.shape)}.",
            )


@of_constraints()
def projects(subject: ConstraintSubject) -> None:
    """Finite weights stay finite, and constraining twice equals constraining once."""
    for w in _weights():
        once = to_numpy(subject.sample(to_tensor(w)))
        require(np.isfinite(once).all(), "finite weights became NaN or infinite.")
        twice = to_numpy(subject.sample(to_tensor(once)))
        require_equal(twice, once, once, "constrained again", 1e-5, 1e-6)


@of_constraints(when=lambda subject: len(MODES) > 1)
def constrains_in_every_mode(subject: ConstraintSubject) -> None:
    """Eager, graph and XLA give the same values."""
    w = _weights()[0]
    values = {m: value_and_gradient(subject.sample, w, w, m)[0] for m in MODES}
    for mode in MODES[1:]:
        message = f"in mode {mode!r}"
        require_equal(values[mode], values["eager"], w, message, 1e-5, 1e-6)


@of_constraints()
def holds_in_training(subject: ConstraintSubject) -> None:
    """After each training step the kernel of a layer satisfies the constraint."""
    (layer,) = trained(subject).layers
    kernel = to_numpy(layer.kernel)
    constrained = to_numpy(subject.sample(to_tensor(kernel)))
    require_equal(kernel, constrained, kernel, "a kernel after training", 1e-5, 1e-6)
