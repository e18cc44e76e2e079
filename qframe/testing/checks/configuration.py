"""The description of a component: parameters, identifier, config, precision, traits."""

from __future__ import annotations

from typing import Any

import keras

from qframe.quantizers import Traits
from qframe.testing.check import require
from qframe.testing.checks import of_constraints, of_quantizers
from qframe.testing.subjects import QuantizerSubject, Subject


def _alternatives(value: Any) -> list[Any]:
    """Other values that an argument may accept."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, value * 2]
    if isinstance(value, float):
        return [value / 2, value * 2]
    return [1.5, 3, True, 7]


@of_constraints()
@of_quantizers()
def parameters(subject: Subject) -> None:
    """Each parameter of ``__init__`` is stored under its own name, whatever its value."""
    for name, value in subject.written_arguments.items():
        stored = subject.sample.parameters[name]
        require(stored == value, f"{name}={value!r} was given, but {stored!r} is stored.")
    for name, value in subject.sample.parameters.items():
        for other in _alternatives(value):
            try:
                changed = subject.fresh(**{name: other})
            # The component may reject the value with any exception.
            except Exception:
                continue
            require(
                changed.parameters[name] == other,
                f"{name}={other!r} was given, but {changed.parameters[name]!r} is stored; "
                f"write self.{name} = {name} in __init__.",
            )


@of_constraints()
@of_quantizers()
def identifier(subject: Subject) -> None:
    """The identifier and the config build an equal object."""
    sample = subject.sample
    config = sample.get_config()
    copies = {
        f"get({str(sample.identifier)!r})": subject.interpret(str(sample.identifier)),
        "from_config(get_config())": type(sample).from_config(config),
        "Keras's deserialization": keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(sample)
        ),
    }
    for source, copy in copies.items():
        equal = type(copy) is type(sample) and copy.parameters == sample.parameters
        require(equal, f"{source} gives {copy!r} and not {sample!r}.")


@of_quantizers()
def name(subject: QuantizerSubject) -> None:
    """``__init__`` takes the arguments of every Keras layer through ``**kwargs``."""
    try:
        stored = type(subject.sample)(**subject.sample.parameters, name="mine").name
    except TypeError as error:
        raise AssertionError(
            f"it takes no name= ({error}); write __init__(self, ..., **kwargs) and "
            "super().__init__(**kwargs)."
        ) from None
    require(stored == "mine", f"name='mine' was given, but the name is {stored!r}.")


@of_quantizers()
def traits(subject: QuantizerSubject) -> None:
    """The precision and the traits do not contradict each other."""
    precision, promised = subject.sample.precision, subject.sample.traits
    require(isinstance(promised, Traits), f"traits is {promised!r}, not Traits(...).")
    whole = isinstance(precision, int) and not isinstance(precision, bool)
    require(
        precision is None or (whole and 1 <= precision <= 64),
        f"precision must be a number of bits or None, found {precision!r}.",
    )
    levels = promised.levels
    if levels is not None:
        require(
            list(levels) == sorted(set(levels)) and levels,
            f"levels must be ascending and different, found {levels}.",
        )
        if precision:
            require(
                len(levels) <= 2**precision,
                f"{len(levels)} levels need more than precision={precision} bits.",
            )
    for name in ("range", "support"):
        pair = getattr(promised, name)
        require(
            pair is None or (len(pair) == 2 and pair[0] < pair[1]),
            f"{name} must be (low, high), found {pair}.",
        )
    if levels and promised.range:
        require(
            (levels[0], levels[-1]) == tuple(promised.range),
            f"the range {promised.range} is not that of the levels {levels}.",
        )
    require(
        promised.scaled or not promised.channelwise,
        "a channelwise quantizer is scaled too.",
    )
    require(
        not (promised.elementwise and promised.channelwise),
        "a quantizer with a scale per channel of each tensor is not elementwise.",
    )
    require(
        not promised.stochastic or "seed" in subject.sample.parameters,
        "a stochastic quantizer has a parameter `seed`.",
    )
    learns = bool(subject.ready.trainable_variables)
    require(
        learns == promised.trainable,
        f"trainable={promised.trainable}, and it owns "
        f"{len(subject.ready.trainable_variables)} variables that learn.",
    )
    writes = bool(subject.ready.non_trainable_weights)
    require(
        writes == promised.updates,
        f"updates={promised.updates}, and it owns "
        f"{len(subject.ready.non_trainable_weights)} variables that do not learn.",
    )
