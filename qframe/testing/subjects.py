"""Quantizers and constraints under test, with fresh copies for each check."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from typing import Any

import keras
import numpy as np

from qframe import constraints, quantizers
from qframe.errors import ArgumentError, UnknownNameError
from qframe.quantizers import Quantizer
from qframe.quantizers.differentiation import Array, to_numpy, to_tensor
from qframe.registry.configurable import Configurable, construct
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

# The shape that stateful quantizers are built for; 13 leaves a remainder in any loop.
STATE_SHAPE = (13, 4)
# Irregular, and few, since JAX compiles each operation for each shape.
SHAPES = ((1,), (9,), (2, 3), (3, 1, 5), (2, 1, 3, 2))


class Subject:
    """A component under test, of which it makes fresh copies.

    Args:
        component: an identifier, a class, or an object.
    """

    kind = ""

    def __init__(self, component: Any) -> None:
        self.component = component
        self.sample = self.interpret(component)

    def interpret(self, component: Any) -> Any:
        """The object to check; raise if `component` does not name one."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The name of the subject in messages."""
        return repr(self.sample)

    @property
    def written_arguments(self) -> dict[str, Any]:
        """The arguments in the identifier; none for a class or object."""
        if isinstance(self.component, str):
            return dict(Identifier.parse(self.component, positional=True).arguments)
        return {}

    def fresh(self, **changes: Any) -> Any:
        """A new object with the same parameters, some of them changed."""
        return construct(type(self.sample), {**self.sample.parameters, **changes})


class ConstraintSubject(Subject):
    """A constraint under test."""

    kind = "constraint"

    def interpret(self, component: Any) -> Any:
        if isinstance(component, type):
            component = component()
        constraint = constraints.get(component)
        if not isinstance(constraint, Configurable):
            raise ArgumentError(
                "check_constraint takes a constraint or an identifier, found "
                f"{component!r}."
            )
        return constraint


class QuantizerSubject(Subject):
    """A quantizer under test."""

    kind = "quantizer"

    def interpret(self, component: Any) -> Any:
        quantizer = quantizers.get(component)
        if not isinstance(quantizer, Quantizer):
            raise ArgumentError(
                "check_quantizer takes a qframe.quantizers.Quantizer or an identifier, "
                f"found {component!r}."
            )
        return quantizer

    @functools.cached_property
    def traits(self) -> Any:
        """The promises of `sample`."""
        return self.sample.traits

    @property
    def traits_of_ready(self) -> Any:
        """The promises of `ready`, whose references read its state."""
        return self.ready.traits

    @functools.cached_property
    def stateful(self) -> bool:
        """True if it owns variables other than the states of random generators."""
        return bool(self.ready.weights)

    @functools.cached_property
    def ready(self) -> Any:
        """A quantizer with started state, which only inference uses."""
        return self.started()

    @functools.cached_property
    def call(self) -> Any:
        """`ready` with the channels on the last axis, always as the same function."""
        return self.on_axis(self.ready)

    def on_axis(self, quantizer: Any, axis: Any = -1) -> Any:
        """A quantizer, or a method of one, as a function of a tensor alone."""
        if self.traits.channelwise:
            return functools.partial(quantizer, channel_axis=axis)
        return quantizer

    def started(self, shape: tuple[int, ...] = STATE_SHAPE) -> Any:
        """A fresh quantizer after one training batch."""
        quantizer = self.fresh()
        quantizer.build(shape)
        quantizer(self.batch(shape), training=True)
        return quantizer

    def batch(self, shape: tuple[int, ...] = STATE_SHAPE, dtype: str = "float32") -> Array:
        """Normally distributed numbers, the same ones each time."""
        return np.random.default_rng(0).normal(size=shape).astype(dtype)

    @property
    def elementwise(self) -> bool:
        """True if each value depends on its element alone, so that any shape will do."""
        return self.traits.elementwise and not self.stateful

    def affine(self, x: Array) -> tuple[Any, Any] | None:
        """The scale and the zero point of `call` for an array; None if there are none."""
        affine: tuple[Any, Any] | None = self.on_axis(self.ready.affine)(to_tensor(x))
        return affine

    def scale(self, x: Array) -> Array:
        """The scale of `call` for an array, in float32; 1 if there is none."""
        affine = self.affine(x) if self.traits.scaled else None
        if affine is None:
            return np.ones((), "float32")
        return to_numpy(keras.ops.cast(affine[0], "float32"))

    @functools.cached_property
    def kinks(self) -> tuple[float, ...]:
        """Levels, ties and ends, where values may change, and their neighbours."""
        traits = self.traits
        # The largest scale if there are several.
        scale = float(self.scale(self.batch()).max()) if traits.elementwise else 1.0
        levels = traits.levels or ()
        ties = [(a + b) / 2 for a, b in itertools.pairwise(levels)]
        scaled = [x * scale for x in (*levels, *ties, *(traits.range or ()))]
        candidates = {0.0, -0.0, 0.5, 1.0, -1.0, *scaled, *(traits.support or ())}
        exact = {float(np.float32(x)) for x in candidates if math.isfinite(x)}
        neighbours = {
            float(np.nextafter(np.float32(x), np.float32(toward)))
            for x in exact
            for toward in (-np.inf, np.inf)
        }
        # Devices differ in how they compute with subnormal numbers.
        smallest = float(np.finfo(np.float32).tiny)
        return tuple(sorted(x for x in exact | neighbours if x == 0 or abs(x) >= smallest))

    @functools.cached_property
    def numbers(self) -> Array:
        """The numbers for an elementwise quantizer: kinks, usual and extreme ones.

        Apart from the kinks, half of them are where most grids are. The exponents of the
        other half are uniform over those of float32, without subnormal numbers.
        """
        rng = np.random.default_rng(0)
        usual = rng.uniform(-8, 8, size=2048)
        extreme = rng.choice([-1, 1], size=2048) * 2.0 ** rng.uniform(-126, 128, size=2048)
        kinks = self.tensor_of_kinks().ravel()
        # -0.0 equals 0.0 in the set of kinks.
        zeros = np.asarray([-0.0, 0.0, -0.0, 0.0])
        numbers = np.concatenate([zeros, kinks, usual, extreme]).astype("float32")
        return numbers.reshape(-1, 4)

    def small_tensors(self) -> list[Array]:
        """Numbers from -1 to 1 in a tensor of each shape, and a constant tensor."""
        rng = np.random.default_rng(1)
        shapes = (*SHAPES, STATE_SHAPE)
        tensors = [rng.uniform(-1, 1, size=shape).astype("float32") for shape in shapes]
        return [*tensors, np.full(STATE_SHAPE, 0.5, "float32")]

    def tensor_of_kinks(self, magnitude: float | None = None) -> Array:
        """All kinks up to a magnitude, some repeated, in a tensor of four channels."""
        kinks = [x for x in self.kinks if magnitude is None or abs(x) <= magnitude]
        rows = max(STATE_SHAPE[0], -(-len(kinks) // 4))
        return np.resize(np.asarray(kinks, "float32"), (rows, 4))


SUBJECTS: dict[str, type[Subject]] = {
    subject.kind: subject for subject in (QuantizerSubject, ConstraintSubject)
}


def subject_of(component: Any) -> Subject:
    """The subject for a quantizer or a constraint."""
    if isinstance(component, str):
        name = Identifier.parse(component, positional=True)
        for kind, subject in SUBJECTS.items():
            with contextlib.suppress(UnknownNameError):
                registry.resolve(kind, name)
                return subject(component)
        return QuantizerSubject(component)  # raises
    cls = component if isinstance(component, type) else type(component)
    is_constraint = issubclass(cls, keras.constraints.Constraint)
    return ConstraintSubject(component) if is_constraint else QuantizerSubject(component)
