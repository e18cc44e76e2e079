"""The kit finds what is wrong: each mutant breaks one promise, and one check says so."""

from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import ops

import qframe as qf
from conforming_quantizers import Coin, MeanSign, Reach, Step, Thirds, UnitMax
from qframe.quantizers import clip_through, round_through, straight_through
from qframe.registry.discovery import registry
from qframe.testing import (
    ConformanceError,
    check_constraint,
    check_quantizer,
    constraint_checks,
    quantizer_checks,
)

pytestmark = pytest.mark.once_per_backend
SOUND = [Thirds, MeanSign, Step, Coin]


@pytest.fixture(autouse=True)
def _local():
    for cls in (*SOUND, Reach, UnitMax, *QUANTIZERS, *CONSTRAINTS):
        qf.register(cls)
    yield
    registry.forget_local()


@pytest.mark.tensorflow  # the quantizers of plugins pass on each backend
@pytest.mark.parametrize("cls", SOUND)
def test_sound_quantizers_pass(cls):
    check_quantizer(cls)


def test_state_that_learns_only_beyond_the_range_learns():
    [check] = [check for check in quantizer_checks(Reach) if check.name == "learns"]
    check()


def test_a_sound_constraint_passes():
    check_constraint(UnitMax)


# Each with the check that has to find it, and what that says.
QUANTIZERS = {}
CONSTRAINTS = {}


def mutant(check, message, found_by=QUANTIZERS):
    def add(cls):
        cls.__name__ = cls.__qualname__ = cls.__doc__.split(":")[0].title().replace(" ", "")
        found_by[cls] = (check, message)
        return cls

    return add


@mutant("levels", "between the levels")
class _(Thirds):
    """zero at a tie: a value that is not a level."""

    def value(self, inputs):
        return ops.where(inputs == 0, inputs, super().value(inputs))


@mutant("reference", "at x = ")
class _(Thirds):
    """ties down: they should go up."""

    def value(self, inputs):
        x = clip_through(inputs, -1, 1)
        return ops.ceil((x + 1) * 1.5 - 0.5) / 1.5 - 1


@mutant("surrogate", "at x = ")
class _(Thirds):
    """open support: the gradient at the kink is missing."""

    def gradient(self, inputs):
        return ops.cast(ops.abs(inputs) < 1, inputs.dtype) * self.sharpness


@mutant("surrogate", "at x = ")
class _(Thirds):
    """half at kinks: as the backends' own clips take it."""

    def gradient(self, inputs):
        inside = super().gradient(inputs)
        return ops.where(ops.abs(inputs) == 1, inside / 2, inside)


@mutant("support", "outside of the support")
class _(Thirds):
    """leaky: some gradient beyond the support."""

    def gradient(self, inputs):
        return super().gradient(inputs) + 1e-3


@mutant("reference", "-0.0")
class _(Thirds):
    """negative zero: its value is another one."""

    def value(self, inputs):
        negative = (inputs == 0) & (1 / inputs < 0)
        return ops.where(negative, -1 / 3, super().value(inputs))


@mutant("reference", "at x = ")
class _(Thirds):
    """vectors: their values are negated."""

    def value(self, inputs):
        return super().value(inputs) * (-1 if len(inputs.shape) == 1 else 1)


@mutant("reference", "at x = ")
class _(Thirds):
    """four axes: their values are negated."""

    def value(self, inputs):
        return super().value(inputs) * (-1 if len(inputs.shape) == 4 else 1)


@mutant("surrogate", "at x = ")
class _(Thirds):
    """three axes: the gradient is three times too large."""

    def gradient(self, inputs):
        return super().gradient(inputs) * (3 if len(inputs.shape) > 2 else 1)


@mutant("reference", "at x = ")
class _(Thirds):
    """constant: a tensor of one number becomes its mean."""

    def value(self, inputs):
        constant = ops.max(inputs) == ops.min(inputs)
        return ops.where(constant, ops.zeros_like(inputs), super().value(inputs))


@mutant("reference", "at x = ")
class _(Thirds):
    """normalized: the largest magnitude becomes one where it is less."""

    def value(self, inputs):
        return super().value(inputs / ops.minimum(1.0, ops.max(ops.abs(inputs))))


@mutant("alive", "zero everywhere")
class _(Thirds):
    """no gradient: nothing learns."""

    def gradient(self, inputs):
        return ops.zeros_like(inputs)


@mutant("trains", "no weight moved")
class _(Thirds):
    """rounds only: autodiff has no gradient for it."""

    def call(self, inputs):
        return self.value(ops.stop_gradient(inputs)) + 0 * inputs


@mutant("finite", "gradient at x = ")
class _(Thirds):
    """divides by zero: the gradient of zero is NaN."""

    def gradient(self, inputs):
        return super().gradient(inputs) * (inputs / inputs)


@mutant("linear", "g(a)")
class _(Thirds):
    """clips the upstream: the gradient is not linear in it."""

    def call(self, inputs):
        @ops.custom_gradient
        def through(x):
            def pull_back(*arguments, upstream=None):
                upstream = arguments[0] if upstream is None else upstream
                return ops.clip(upstream, -1, 1) * self.gradient(x)

            return self.value(x), pull_back

        return through(inputs)


@mutant("range_", "the range is")
class _(Thirds):
    """twice: values beyond the range."""

    def value(self, inputs):
        return 2 * super().value(inputs)


@mutant("bits", "different values")
class _(Thirds):
    """more values: than its precision allows."""

    promises: ClassVar = {**Thirds.promises, "levels": None, "idempotent": False}
    precision = 1


@mutant("traits", "need more than")
class _(Thirds):
    """too few bits: for its levels."""

    precision = 1


@mutant("traits", "number of bits")
class _(Thirds):
    """precision as a text: it is to be a number."""

    precision = "2"


@mutant("idempotent", "quantized again")
class _(Thirds):
    """shrinks: twice is not once."""

    promises: ClassVar = {**Thirds.promises, "levels": None, "range": None}

    def value(self, inputs):
        return super().value(inputs) / 2


@mutant("monotone", "falls from")
class _(Thirds):
    """falls: in between."""

    def value(self, inputs):
        return ops.where(ops.abs(inputs) > 2, 0 * inputs + 1 / 3, super().value(inputs))


@mutant("odd", "-q(x)")
class _(Thirds):
    """lopsided: not odd."""

    def value(self, inputs):
        return super().value(inputs + 0.2)


@mutant("shape_and_dtype", "became float32")
class _(Thirds):
    """always float32: whatever it is given."""

    def call(self, inputs):
        return ops.cast(super().call(inputs), "float32")


@mutant("shape_and_dtype", "became one of shape")
class _(Thirds):
    """flattens: the shape is lost."""

    def call(self, inputs):
        return ops.reshape(super().call(inputs), (-1,))


@mutant("nan", "NaN is to become")
class _(Thirds):
    """hides NaN: as a number."""

    def value(self, inputs):
        return super().value(ops.where(ops.isnan(inputs), ops.zeros_like(inputs), inputs))


@mutant("infinity", "became NaN")
class _(Thirds):
    """infinity minus infinity: is NaN."""

    def value(self, inputs):
        return super().value(inputs) + (inputs - inputs)


@mutant("finite_beside_nan", "changed")
class _(Thirds):
    """spreads NaN: to the gradient of others."""

    def gradient(self, inputs):
        return super().gradient(inputs) + 0 * ops.sum(inputs)


@mutant("elementwise", "part of the batch")
class _(Thirds):
    """looks around: at the other numbers."""

    def value(self, inputs):
        return super().value(inputs / (1e-6 + ops.max(ops.abs(inputs))))


@mutant("parameters", "is stored")
class _(Thirds):
    """forgets: an argument."""

    def __init__(self, sharpness=1.0, **kwargs):
        super().__init__(**kwargs)
        self.sharpness = 1.0


@mutant("parameters", "is stored")
class _(Thirds):
    """forgets what is below one: and takes no more than that."""

    def __init__(self, sharpness=1.0, **kwargs):
        super().__init__(**kwargs)
        if sharpness > 1:
            raise ValueError("sharpness is at most 1")
        self.sharpness = 1.0


@mutant("identifier", "gives")
class _(Thirds):
    """another config: than its parameters."""

    def get_config(self):
        return {**super().get_config(), "sharpness": 9.0}


@mutant("name", "takes no name")
class _(Thirds):
    """no keyword arguments: a name among them."""

    def __init__(self, sharpness=1.0):
        super().__init__(sharpness)


@mutant("pure", "same input again")
class _(Thirds):
    """remembers: the call before."""

    count = 0.0

    def value(self, inputs):
        self.count += 0.25
        return super().value(inputs + self.count)


if keras.backend.backend() != "torch":  # which has one mode

    @mutant("modes", "eager mode")
    class _(Thirds):
        """shifts when traced: graph is not eager."""

        def value(self, inputs):
            traced = not hasattr(inputs, "device") or "Tracer" in type(inputs).__name__
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                traced = not tf.executing_eagerly()
            return super().value(inputs + 0.3 if traced else inputs)


@mutant("in_mixed_precision", "gave NaN")
class _(Thirds):
    """overflows: in float16."""

    def value(self, inputs):
        large = inputs * 1e6
        return super().value(inputs + (large - large))


@mutant("surrogate", "at x = ")
class _(MeanSign):
    """through the scale: a gradient that should not be."""

    def call(self, inputs, channel_axis=-1):
        signs = straight_through(ops.sign, ops.ones_like)(inputs)
        return self.scale(inputs, channel_axis) * signs


@mutant("channelwise", "alone")
class _(MeanSign):
    """the last axis always: whatever the layer says."""

    def scale(self, inputs, axis):
        return super().scale(inputs, -1)


@mutant("channelwise", "is an ArgumentError")
class _(MeanSign):
    """wraps around: an axis that is not there."""

    def scale(self, inputs, axis):
        rank = len(inputs.shape)
        return super().scale(inputs, axis % rank if isinstance(axis, int) else axis)


@mutant("integers", "scale * (integer - zero_point)")
class _(MeanSign):
    """twice the scale: its integers are of another tensor."""

    def integers(self, inputs, channel_axis=-1):
        import attrs

        result = super().integers(inputs, channel_axis)
        return attrs.evolve(result, scale=2 * result.scale)


@mutant("integers", "not on the grid")
class _(Step):
    """off its grid: the scale is not its step."""

    def affine(self, inputs):
        return self.size(inputs) * 0.7, 0


@mutant("scales", "scales_of says 0")
class _(MeanSign):
    """scales that nobody counts: its model is smaller than it is."""

    def scales_of(self, shape, channel_axis=-1):
        return 0


@mutant("learns", "stayed at")
class _(Step):
    """stops the gradient: the step learns nothing."""

    def size(self, inputs, training=False):
        return ops.stop_gradient(super().size(inputs, training))


@mutant("freezes", "frozen")
class _(Step):
    """moves when frozen: since it assigns."""

    def call(self, inputs, training=False):
        self.step.change.assign(self.step.change + 0.01)
        return super().call(inputs, training)


@mutant("pure", "inference changed")
class _(Step):
    """gathers in inference: which changes it."""

    def size(self, inputs, training=False):
        self.step.start.assign(ops.mean(ops.abs(inputs)))
        return super().size(inputs, training)


@mutant("saved_model", "other values")
class _(Step):
    """saves nothing: of what it learned."""

    def save_own_variables(self, store):
        pass


@mutant("traits", "variables that learn")
class _(Step):
    """learns in secret: its traits do not say so."""

    promises: ClassVar = {**Step.promises, "trainable": False}


@mutant("draws", "same values")
class _(Coin):
    """dead noise: it never draws."""

    def noise(self, inputs):
        return ops.zeros_like(inputs)


@mutant("draws", "inference twice")
class _(Coin):
    """noise in inference: where there is none."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


@mutant("seeded", "draw the same")
class _(Coin):
    """one seed: for all."""

    def __init__(self, seed=0, **kwargs):
        super().__init__(seed, **kwargs)
        self.generator = keras.random.SeedGenerator(0)


@mutant("seeded", "the same seed")
class _(Coin):
    """no seed: a new generator for each call."""

    def noise(self, inputs):
        drawn = np.random.default_rng().uniform(-0.5, 0.5, inputs.shape)
        return ops.convert_to_tensor(drawn.astype("float32"))


@mutant("unbiased", "average")
class _(Coin):
    """loaded: the mean is off."""

    def noise(self, inputs):
        return super().noise(inputs) + 0.1


@mutant("draws_levels", "between the levels")
class _(Coin):
    """noise on top: of what is rounded."""

    def call(self, inputs, training=False):
        x = round_through(clip_through(inputs, -2, 1))
        return x + 0.1 * self.noise(inputs) if training else x


@mutant("traits", "a parameter `seed`")
class _(Coin):
    """no parameter: for the seed."""

    def __init__(self, **kwargs):
        super().__init__(0, **kwargs)


@mutant("projects", "constrained again", CONSTRAINTS)
class _(UnitMax):
    """halves: each time."""

    def __call__(self, w):
        return w / 2


@mutant("projects", "became NaN", CONSTRAINTS)
class _(UnitMax):
    """zero by zero: NaN."""

    def __call__(self, w):
        return w / ops.max(ops.abs(w))


@mutant("keeps_shape_and_dtype", "became float32", CONSTRAINTS)
class _(UnitMax):
    """float32 weights: whatever they were."""

    def __call__(self, w):
        return ops.cast(super().__call__(w), "float32")


@mutant("parameters", "is stored", CONSTRAINTS)
class _(UnitMax):
    """forgets the limit: an argument."""

    def __init__(self, limit=1.0):
        self.limit = 1.0


def _cases(found_by):
    return [pytest.param(cls, *said, id=cls.__name__) for cls, said in found_by.items()]


@pytest.mark.parametrize(("cls", "name", "message"), _cases(QUANTIZERS))
def test_wrong_quantizers_are_found(cls, name, message):
    [check] = [check for check in quantizer_checks(cls) if check.name == name]
    with pytest.raises((AssertionError, qf.errors.QFrameError)) as error:
        check()
    assert message in str(error.value)


@pytest.mark.parametrize(("cls", "name", "message"), _cases(CONSTRAINTS))
def test_wrong_constraints_are_found(cls, name, message):
    [check] = [check for check in constraint_checks(cls) if check.name == name]
    with pytest.raises(AssertionError) as error:
        check()
    assert message in str(error.value)


def test_one_error_lists_all_faults():
    [cls] = [cls for cls in QUANTIZERS if cls.__name__ == "Twice"]
    with pytest.raises(ConformanceError) as error:
        check_quantizer(cls)
    for name in ("levels", "range_", "reference"):
        assert f"local:twice-{name}: " in str(error.value)
