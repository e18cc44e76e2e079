"""The trainable state of a quantizer."""

from __future__ import annotations

import numpy as np

from qframe.quantizers.differentiation import to_numpy
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.placement import fit, network
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject

# Factors of the rows of a kernel and the columns of its input, alternately large.
WIDE = np.where(np.arange(STATE_SHAPE[0]) % 2, 20.0, 1.0)


@of_quantizers(when=lambda subject: subject.traits.trainable)
def learns(subject: QuantizerSubject) -> None:
    """Training on small and large numbers changes every trainable variable."""
    for slot in ("input", "kernel"):
        model = network(**{f"{slot}_quantizer": subject.fresh()})
        kernel = model.layers[0].kernel
        (quantizer,) = model.layers[0].quantizers.values()
        kernel.assign(kernel * WIDE[:, None])
        fit(model, steps=1, spread=WIDE)  # initializes state from the first batch
        kernel.assign(kernel * 2)  # beyond any initialized range
        before = [to_numpy(variable) for variable in quantizer.trainable_variables]
        fit(model, steps=6, spread=2 * WIDE)
        for variable, old in zip(quantizer.trainable_variables, before, strict=True):
            new = to_numpy(variable)
            require(np.isfinite(new).all(), f"{variable.path} became {new}.")
            require(
                (new != old).any(),
                f"as {slot}_quantizer its variable {variable.path!r} stayed at "
                f"{old.ravel()[:3]} in 6 steps.",
            )


@of_quantizers(when=lambda subject: subject.traits.trainable)
def freezes(subject: QuantizerSubject) -> None:
    """With ``trainable = False`` no variable changes."""
    model = network(kernel_quantizer=subject.fresh())
    fit(model, steps=1)
    (quantizer,) = model.layers[0].quantizers.values()
    learned = [*quantizer.trainable_variables]
    quantizer.trainable = False
    before = [to_numpy(variable) for variable in learned]
    fit(model)
    for variable, old in zip(learned, before, strict=True):
        new = to_numpy(variable)
        require((new == old).all(), f"frozen, its variable {variable.path!r} moved.")
