"""Equal values in every execution mode, call and part of a tensor."""

from __future__ import annotations

import numpy as np

from qframe.errors import ArgumentError
from qframe.quantizers.differentiation import MODES, Array, to_numpy, value_and_gradient
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.values import value
from qframe.testing.comparison import neighbours, on_tensors, require_equal
from qframe.testing.subjects import QuantizerSubject


@of_quantizers(when=lambda subject: len(MODES) > 1)
def modes(subject: QuantizerSubject) -> None:
    """Eager, graph and XLA give the same values and gradients."""
    magnitude = None if subject.traits.elementwise else 100
    kinks = subject.tensor_of_kinks(magnitude)
    rng = np.random.default_rng(1)
    # One shape, so that each mode compiles once.
    shape = kinks.shape
    batches = [
        kinks,
        rng.normal(size=shape),
        rng.uniform(-8, 8, size=shape),
        rng.normal(size=shape) * 1e-3,
    ]
    for batch in batches:
        x = batch.astype("float32")
        upstream = rng.normal(size=shape).astype("float32")
        results = {m: value_and_gradient(subject.call, x, upstream, m) for m in MODES}
        near = [value_and_gradient(subject.call, n, upstream) for n in neighbours(x)]
        for mode in MODES[1:]:
            for i, name in enumerate(("value", "gradient")):
                require_equal(
                    results[mode][i],
                    results["eager"][i],
                    x,
                    f"the {name} in mode {mode!r} is not that of eager mode",
                    1e-4,
                    1e-6,
                    # Near a tie, compiled arithmetic may round to the other side.
                    alternatives=tuple(n[i] for n in near),
                )


@of_quantizers()
def pure(subject: QuantizerSubject) -> None:
    """Inference gives the same values each time and changes no variable."""
    quantizer = subject.started()
    before = [to_numpy(v) for v in quantizer.variables]
    x = subject.batch() * 2 + 1
    call = subject.on_axis(quantizer)
    first = value(call, x)
    value(call, x[::-1].copy() * 3)
    require_equal(value(call, x), first, x, "the same input again")
    for variable, old in zip(quantizer.variables, before, strict=True):
        new = to_numpy(variable)
        require((new == old).all(), f"inference changed {variable.path}.")


@of_quantizers(when=lambda subject: subject.traits.elementwise)
def elementwise(subject: QuantizerSubject) -> None:
    """Quantizing a part of a tensor gives that part of the quantized tensor."""

    def parts(x: Array) -> None:
        whole = value(subject.call, x)
        for index in (slice(0, 1), slice(None, None, -1), slice(len(x) // 2, None)):
            part = np.ascontiguousarray(x[index])
            require_equal(
                value(subject.call, part), whole[index], part, "a part of the batch"
            )

    on_tensors(subject, parts)


@of_quantizers(when=lambda subject: subject.traits.channelwise)
def channelwise(subject: QuantizerSubject) -> None:
    """Each output channel is quantized separately, for every ``channel_axis``."""
    x = subject.batch((3, 4, 5)) * np.array([[[1]], [[10]], [[100]]], "float32")
    for axis in (0, 1, 2, -2, (0, 2), None):
        whole = value(subject.on_axis(subject.ready, axis), x)
        channel_axes = () if axis is None else tuple(np.atleast_1d(axis) % 3)
        for channel in np.ndindex(*(x.shape[i] for i in channel_axes)):
            index = [slice(None)] * 3
            for i, start in zip(channel_axes, channel, strict=True):
                index[i] = slice(int(start), int(start) + 1)
            part = np.ascontiguousarray(x[tuple(index)])
            require_equal(
                whole[tuple(index)],
                value(subject.on_axis(subject.ready, axis), part),
                part,
                f"with channel_axis={axis} the channel {channel} alone",
                1e-5,
                1e-6,
            )
    try:
        value(subject.on_axis(subject.ready, 3), x)
    except ArgumentError:
        return
    require(False, "channel_axis=3 of a tensor of 3 axes is an ArgumentError.")
