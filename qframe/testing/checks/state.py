"""What a quantizer learns or gathers."""

from __future__ import annotations

import numpy as np

from qframe.quantizers.differentiation import to_numpy
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.placement import fit, network
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject

# For rows of a kernel and columns of its input: every other one reaches far out.
WIDE = np.where(np.arange(STATE_SHAPE[0]) % 2, 20.0, 1.0)


@of_quantizers(when=lambda subject: subject.traits.trainable)
def learns(subject: QuantizerSubject) -> None:
    """In training on numbers near and far every variable that learns moves."""
    for slot in ("input", "kernel"):
        model = network(**{f"{slot}_quantizer": subject.fresh()})
        kernel = model.layers[0].kernel
        (quantizer,) = model.layers[0].quantizers.values()
        kernel.assign(kernel * WIDE[:, None])
        fit(model, steps=1, spread=WIDE)  # starts what starts with the first batch
        kernel.assign(kernel * 2)  # beyond any range that has started
        before = [to_numpy(variable) for variable in quantizer.trainable_variables]
        fit(model, steps=6, spread=2 * WIDE)
        for variable, was in zip(quantizer.trainable_variables, before, strict=True):
            now = to_numpy(variable)
            require(np.isfinite(now).all(), f"{variable.path} became {now}.")
            require(
                (now != was).any(),
                f"as {slot}_quantizer its variable {variable.path!r} stayed at "
                f"{was.ravel()[:3]} in 6 steps.",
            )


@of_quantizers(when=lambda subject: subject.traits.trainable)
def freezes(subject: QuantizerSubject) -> None:
    """With ``trainable = False`` nothing of it learns."""
    model = network(kernel_quantizer=subject.fresh())
    fit(model, steps=1)
    (quantizer,) = model.layers[0].quantizers.values()
    learned = [*quantizer.trainable_variables]
    quantizer.trainable = False
    before = [to_numpy(variable) for variable in learned]
    fit(model)
    for variable, was in zip(learned, before, strict=True):
        now = to_numpy(variable)
        require((now == was).all(), f"frozen, its variable {variable.path!r} moved.")
