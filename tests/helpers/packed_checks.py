"""What the compiled engine returns, held against NumPy; and small parts of graphs."""

import re
import tracemalloc
from unittest import mock

import numpy as np

import examples
from guarded_arrays import guarded
from packed_graphs import computed, sign
from packed_teams import predict_in_parts
from qframe.deployment.graph import operations as op
from qframe_packed.compiled import ports
from qframe_packed.compiled.engine import Engine, Session
from qframe_packed.compiled.forms import Ending
from qframe_packed.packing import PackedTensor

F = np.float32
BAD = np.array([np.nan, np.inf, -np.inf], F)


class Guarded(Engine):
    """An engine that writes nothing beyond its outputs."""

    def _room(self, size):
        return [guarded((size, *shape)) for shape in self._shapes]


def check(graph, *inputs, exact=True):
    """The engine returns what NumPy does; returns the kinds of kernels that it ran.

    It uses the arrays of the caller, changes no input, and stays within them. Threads that
    run it together return the same bits.
    """
    engine = Guarded(graph)
    _spoil(engine)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        expected = [np.asarray(array, F) for array in computed(graph, *inputs)]
    with mock.patch.object(ports, "LEAST", 0):
        outputs = engine.predict([guarded(np.shape(x), x) for x in inputs])
        shared = predict_in_parts(engine, [guarded(np.shape(x), x) for x in inputs])
    for actual, part in zip(outputs, shared, strict=True):
        np.testing.assert_array_equal(actual, part)
    for actual, reference in zip(outputs, expected, strict=True):
        assert actual.dtype == F
        assert actual.shape == reference.shape
        if exact:
            np.testing.assert_array_equal(actual, reference)
        else:
            scale = max(1, np.abs(reference).max(initial=0))
            np.testing.assert_allclose(actual, reference, rtol=1e-5, atol=1e-5 * scale)
    return set(kinds(engine))


def assert_drawn(seen, expected):
    """The fixed examples of a property meet all that it is about; others need not."""
    if examples.are_complete():
        assert seen >= expected, expected - seen


def _spoil(engine):
    """Let what no kernel wrote be infinity, which shows where it is read."""
    session = Session(engine.schedule, engine.samples)
    session._memory._bytes.view(F)[:] = np.inf
    engine._free.append(session)


def peak(run):
    """The most bytes of Python that a function has at a time."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def kinds(engine):
    """The kernels and stages of a schedule, by names that are the same on each machine."""
    for step in engine.schedule.steps:
        if isinstance(step, Ending):
            labels = [stage.label for stage in step.epilogue.stages]
            yield from (label.upper().replace(" ", "_") for label in labels)
        yield re.sub(
            "^(lookup|popcount)", "bits", re.sub("^(float|codes).*", r"\1", step.label)
        )


def halves(*shape, seed=0):
    return (np.random.default_rng(seed).integers(-6, 7, shape) / 2).astype(F)


def integers(*shape, of=(-1, 1), seed=0):
    return PackedTensor.of(np.random.default_rng(seed).choice(of, shape))


def levels(count, low=0, step=1):
    """A quantizer whose levels begin at the halves of inputs."""
    return op.Quantize(thresholds=np.arange(1, count, dtype=F) / 2, low=low, step=step)


def per_channel(channels, **arguments):
    """Two thresholds for each channel, some of them never or always reached."""
    rng = np.random.default_rng(1)
    thresholds = np.sort(
        rng.choice([-np.inf, -1, 0, 0.5, 2, np.inf], (2, channels)), axis=0
    )
    direction = rng.choice([-1, 1], channels).astype(np.int8)
    return sign(thresholds=thresholds.astype(F), direction=direction, **arguments)


def conv(kernel, **arguments):
    return op.Conv2D(kernel=kernel, **arguments)
