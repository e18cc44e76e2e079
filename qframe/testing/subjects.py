"""A quantizer or constraint under test: made anew for each check, with state if it has."""

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

# What a quantizer with state is built for: no power of two, so that loops have a rest.
STATE_SHAPE = (13, 4)
# Unfriendly, and few of them, since JAX compiles each operation anew for each shape.
SHAPES = ((1,), (9,), (2, 3), (3, 1, 5), (2, 1, 3, 2))


class Subject:
    """What is checked, and how to get another one like it.

    Args:
        given: an identifier, a class, or an object.
    """

    kind = ""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.sample = self.interpret(given)

    def interpret(self, given: Any) -> Any:
        """The object to check; an error where `given` does not name one."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The name of the subject in messages."""
        return repr(self.sample)

    @property
    def given_arguments(self) -> dict[str, Any]:
        """The arguments that the user wrote, where an identifier was given."""
        if isinstance(self.given, str):
            return dict(Identifier.parse(self.given, positional=True).arguments)
        return {}

    def fresh(self, **changes: Any) -> Any:
        """Another object with the same parameters, or with some changed."""
        return construct(type(self.sample), {**self.sample.parameters, **changes})


class ConstraintSubject(Subject):
    """A constraint under test."""

    kind = "constraint"

    def interpret(self, given: Any) -> Any:
        constraint = constraints.get(given() if isinstance(given, type) else given)
        if not isinstance(constraint, Configurable):
            raise ArgumentError(
                f"check_constraint takes a constraint or an identifier, found {given!r}."
            )
        return constraint


class QuantizerSubject(Subject):
    """A quantizer under test."""

    kind = "quantizer"

    def interpret(self, given: Any) -> Any:
        quantizer = quantizers.get(given)
        if not isinstance(quantizer, Quantizer):
            raise ArgumentError(
                "check_quantizer takes a qframe.quantizers.Quantizer or an identifier, "
                f"found {given!r}."
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
        """Whether it owns variables other than the states of random generators."""
        return bool(self.ready.weights)

    @functools.cached_property
    def ready(self) -> Any:
        """One to ask for values: its state has started, and it is used by no other."""
        return self.started()

    @functools.cached_property
    def call(self) -> Any:
        """`ready`, with the channels on the last axis; always the same function."""
        return self.on_axis(self.ready)

    def on_axis(self, quantizer: Any, axis: Any = -1) -> Any:
        """A quantizer, or a method of one, as a function of a tensor."""
        if self.traits.channelwise:
            return functools.partial(quantizer, channel_axis=axis)
        return quantizer

    def started(self, shape: tuple[int, ...] = STATE_SHAPE) -> Any:
        """A new one whose state has seen a batch of training."""
        quantizer = self.fresh()
        quantizer.build(shape)
        quantizer(self.batch(shape), training=True)
        return quantizer

    def batch(self, shape: tuple[int, ...] = STATE_SHAPE, dtype: str = "float32") -> Array:
        """Normally distributed numbers, the same ones each time."""
        drawn = np.random.default_rng(0).normal(size=shape)
        return drawn.astype(dtype)

    @property
    def elementwise(self) -> bool:
        """Whether any shape will do: nothing is shared between the numbers of a tensor."""
        return self.traits.elementwise and not self.stateful

    def affine(self, x: Array) -> tuple[Any, Any] | None:
        """The scale and the zero point of `call` for an array; None where it has none."""
        found: tuple[Any, Any] | None = self.on_axis(self.ready.affine)(to_tensor(x))
        return found

    def scale(self, x: Array) -> Array:
        """The scale of `call` for an array, in float32; 1 where it has none."""
        affine = self.affine(x) if self.traits.scaled else None
        if affine is None:
            return np.ones((), "float32")
        return to_numpy(keras.ops.cast(affine[0], "float32"))

    @functools.cached_property
    def kinks(self) -> tuple[float, ...]:
        """Where something may change: levels, ties, ends; and the numbers beside them."""
        traits = self.traits
        # Where one number tells it; the largest of several.
        scale = float(self.scale(self.batch()).max()) if traits.elementwise else 1.0
        levels = traits.levels or ()
        ties = [(a + b) / 2 for a, b in itertools.pairwise(levels)]
        scaled = [x * scale for x in (*levels, *ties, *(traits.range or ()))]
        found = {0.0, -0.0, 0.5, 1.0, -1.0, *scaled, *(traits.support or ())}
        exact = {float(np.float32(x)) for x in found if math.isfinite(x)}
        beside = {
            float(np.nextafter(np.float32(x), np.float32(toward)))
            for x in exact
            for toward in (-np.inf, np.inf)
        }
        # Devices differ in what they make of subnormal numbers.
        smallest = float(np.finfo(np.float32).tiny)
        return tuple(sorted(x for x in exact | beside if x == 0 or abs(x) >= smallest))

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
        # Equal to 0 in a set of kinks, and yet another number.
        zeros = np.asarray([-0.0, 0.0, -0.0, 0.0])
        found = np.concatenate([zeros, kinks, usual, extreme]).astype("float32")
        return found.reshape(-1, 4)

    def small_tensors(self) -> list[Array]:
        """Numbers from -1 to 1 in a tensor of each shape, and a constant tensor."""
        rng = np.random.default_rng(1)
        shapes = (*SHAPES, STATE_SHAPE)
        found = [rng.uniform(-1, 1, size=shape).astype("float32") for shape in shapes]
        return [*found, np.full(STATE_SHAPE, 0.5, "float32")]

    def tensor_of_kinks(self, magnitude: float | None = None) -> Array:
        """All kinks up to a magnitude, some twice, in a tensor of four channels."""
        kinks = [x for x in self.kinks if magnitude is None or abs(x) <= magnitude]
        rows = max(STATE_SHAPE[0], -(-len(kinks) // 4))
        return np.resize(np.asarray(kinks, "float32"), (rows, 4))


SUBJECTS: dict[str, type[Subject]] = {
    subject.kind: subject for subject in (QuantizerSubject, ConstraintSubject)
}


def subject_of(given: Any) -> Subject:
    """What a user gave, as a quantizer if it is one, else as a constraint."""
    if isinstance(given, str):
        name = Identifier.parse(given, positional=True)
        for kind, subject in SUBJECTS.items():
            with contextlib.suppress(UnknownNameError):
                registry.resolve(kind, name)
                return subject(given)
        return QuantizerSubject(given)  # for its error
    cls = given if isinstance(given, type) else type(given)
    constraint = issubclass(cls, keras.constraints.Constraint)
    return ConstraintSubject(given) if constraint else QuantizerSubject(given)
