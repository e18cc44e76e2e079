"""Bop, against steps in NumPy and by hand."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops
from keras.optimizers import schedules

import qframe as qf
from examples import settings
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, StarvedWeightsWarning

# Numbers whose sums and products with each other float32 holds exactly.
dyadic = st.integers(-64, 64).map(lambda n: n / 16)


def reference(weights, gradients, threshold, gamma):
    """The weights after each step."""
    weights, average = np.array(weights), np.zeros_like(weights)
    for step, gradient in enumerate(gradients):
        average = average + gamma(step) * (gradient - average)
        push = weights * average - threshold(step)
        weights = -np.sign(push) * weights
        weights = np.where(weights >= 0, 1.0, -1.0)
        yield weights


def run(weights, gradients, **how):
    """The same with the optimizer."""
    variable = keras.Variable(np.array(weights, "float32"))
    optimizer = qf.optimizers.Bop(**how)
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [variable])
        yield ops.convert_to_numpy(variable)


@settings(max_examples=40)
@given(
    weights=hnp.arrays("float64", 6, elements=dyadic),
    gradients=hnp.arrays("float64", (4, 6), elements=dyadic),
    threshold=st.sampled_from([0.0, 0.125, 0.5, 1.0]),
    gamma=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_equals_the_reference_and_stays_binary(weights, gradients, threshold, gamma):
    expected = reference(weights, gradients, lambda _: threshold, lambda _: gamma)
    for step in run(weights, gradients, threshold=threshold, gamma=gamma):
        np.testing.assert_array_equal(step, next(expected))
        assert set(step) <= {-1.0, 1.0}


def test_by_hand():
    # gamma 1/2, threshold 1/4; the averages of the three weights are
    #   step 1:  1/2   1/4  -1/2
    #   step 2:  3/4   1/8   1/4
    #   step 3:  3/8  -7/16  1/8
    # and the weights times them:
    #   step 1:  1/8 stays, 1/2 flips, 1/2 flips
    #   step 2:  3/4 flips, -1/8 stays, 1/4 is equal: +1
    #   step 3: -3/8 stays, 7/16 flips, 1/8 stays
    steps = run(
        [0.25, 2.0, -1.0],
        [[1.0, 0.5, -1.0], [1.0, 0.0, 1.0], [0.0, -1.0, 0.0]],
        threshold=0.25,
        gamma=0.5,
    )
    assert [step.tolist() for step in steps] == [[1, -1, 1], [-1, -1, 1], [-1, 1, 1]]


def test_equality_gives_plus_one_from_either_side():
    (step,) = run([1.0, -1.0], [[0.5, -0.5]], threshold=0.5, gamma=1.0)
    assert step.tolist() == [1, 1]


def test_zero_counts_as_plus_one_and_nan_stays_nan():
    (step,) = run([0.0, -0.0, np.nan, 1.0], [[1.0, -1.0, 1.0, np.nan]], gamma=1.0)
    np.testing.assert_array_equal(step, [1, 1, np.nan, np.nan])


def test_the_first_step_takes_the_sign_of_the_weights():
    weights = np.random.default_rng(0).normal(size=(5, 7))
    (step,) = run(weights, [np.zeros((5, 7))])
    np.testing.assert_array_equal(step, np.sign(weights))


def test_schedules_of_both():
    gradients = np.random.default_rng(1).integers(-16, 16, (6, 20)) / 8
    weights = np.ones(20)
    gamma, threshold = [0.5, 0.5, 0.25, 0.25, 1.0, 1.0], [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    steps = run(
        weights,
        gradients,
        gamma=schedules.PiecewiseConstantDecay([1, 3], [0.5, 0.25, 1.0]),
        threshold=schedules.PiecewiseConstantDecay([2], [0.5, 0.25]),
    )
    expected = reference(weights, gradients, threshold.__getitem__, gamma.__getitem__)
    for actual, step in zip(steps, expected, strict=True):
        np.testing.assert_array_equal(actual, step)


def test_numbers_can_be_set_between_steps():
    variable = keras.Variable([1.0, 1.0])
    bop = qf.optimizers.Bop(threshold=10.0, gamma=0.5)
    bop.apply([ops.ones(2)], [variable])
    bop.threshold, bop.gamma = 0.25, np.float32(0.0)
    assert float(bop.learning_rate) == 0
    bop.apply([ops.ones(2)], [variable])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), [-1, -1])
    bop.learning_rate = 1.0
    assert float(bop.gamma) == 1
    bop.apply([-ops.ones(2)], [variable])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), [1, 1])


@pytest.mark.parametrize("name", ["threshold", "gamma", "learning_rate"])
def test_wrong_hyperparameters_are_refused_when_set(name):
    half = schedules.ExponentialDecay(0.5, 10, 0.5)
    bop = qf.optimizers.Bop()
    for wrong in (half, -1.0, "fast", None, float("nan")):
        with pytest.raises(ArgumentError, match=r"threshold|gamma"):
            setattr(bop, name, wrong)
    bop = qf.optimizers.Bop(threshold=half, gamma=half)
    with pytest.raises(ArgumentError, match=r"new Bop\((gamma|threshold)="):
        setattr(bop, name, 0.1)
    assert float(getattr(bop, name)) == 0.5


class Returns(schedules.LearningRateSchedule):
    def __init__(self, value):
        self.value = value

    def __call__(self, step):
        return self.value() if callable(self.value) else self.value

    def get_config(self):
        return {"value": self.value}


@pytest.mark.parametrize("name", ["threshold", "gamma"])
@pytest.mark.parametrize(
    "value",
    [
        *(-1e-9, float("nan"), float("inf"), True, None, "0.1", [0.1], lambda: 0.1),
        *(Returns(-0.5), Returns(float("nan")), Returns(np.ones(2)), Returns("fast")),
        *(Returns(lambda: 1 / 0), Returns(None), np.ones(1)),
    ],
)
def test_wrong_hyperparameters(name, value):
    with pytest.raises(ArgumentError, match=f"{name} of Bop"):
        qf.optimizers.Bop(**{name: value})


def test_gamma_is_at_most_one():
    with pytest.raises(ArgumentError, match=r"from 0 to 1, .* found 1\.5\."):
        qf.optimizers.Bop(gamma=1.5)
    with pytest.raises(ArgumentError, match=r"from 0 to 1, .* found 2\.0 at step 0 of "):
        qf.optimizers.Bop(gamma=Returns(2.0))
    assert float(qf.optimizers.Bop(threshold=1.5).threshold) == 1.5


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("weight_decay", 1e-4, "nothing smaller"),
        ("use_ema", True, "moving average"),
        ("ema_momentum", 0.9, "moving average"),
        ("learning_rate", 0.1, "gamma"),
        ("treshold", 0.1, "'threshold'"),
        ("clip_norm", 0.1, "'clipnorm'"),
    ],
)
def test_unsupported_arguments_of_bop_are_refused(key, value, said):
    with pytest.raises(ArgumentError, match=said):
        qf.optimizers.Bop(**{key: value})


@pytest.mark.parametrize(
    "how",
    [
        {"threshold": 0.5, "gamma": 0.25, "name": "flips", "clipnorm": 1.0},
        {"global_clipnorm": 2.0, "loss_scale_factor": 4.0},
        {"clipvalue": 2.0, "gradient_accumulation_steps": 3},
        {"threshold": schedules.CosineDecay(0.5, 10), "gamma": Returns(0.25)},
    ],
    ids=lambda how: " ".join(how),
)
def test_config_round_trip(how):
    bop = qf.optimizers.Bop(**how)
    config = keras.saving.serialize_keras_object(bop)
    known = {"Returns": Returns}
    again = keras.saving.deserialize_keras_object(config, custom_objects=known)
    assert type(again) is qf.optimizers.Bop
    assert keras.saving.serialize_keras_object(again) == config
    for name in how:
        value = getattr(again, name)
        expected = how[name](0) if callable(how[name]) else how[name]
        assert (value if isinstance(expected, str) else float(value)) == expected
    assert not {"weight_decay", "use_ema", "learning_rate"} & set(bop.get_config())


def test_the_config_holds_what_was_set():
    bop = qf.optimizers.Bop()
    bop.threshold, bop.gamma = 0.25, 0.5
    again = qf.optimizers.Bop.from_config(bop.get_config())
    assert (float(again.threshold), float(again.gamma)) == (0.25, 0.5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_small_gradients_add_up_in_every_dtype(dtype):
    # In 16 bits 1e-4 of such gradients is lost, and the default threshold is 0.
    if keras.backend.backend() == "jax" and dtype == "float64":
        pytest.skip(reason="JAX has no float64 by default")
    gradients = np.array([1e-4, 1e-4, -1e-4, 0.0])
    variable = keras.Variable(np.array([1, -1, 1, -1]), dtype=dtype)
    bop = qf.optimizers.Bop(threshold=2.5e-8)
    for expected in ([1, -1, 1, -1], [1, -1, 1, -1], [-1, -1, 1, -1]):
        bop.apply([ops.convert_to_tensor(gradients, dtype)], [variable])
        actual = ops.convert_to_numpy(ops.cast(variable, "float32"))
        np.testing.assert_array_equal(actual, expected)
    (average,) = (v for v in bop.variables if v.path.endswith("average"))
    wide = "float64" if dtype == "float64" else "float32"
    assert keras.backend.standardize_dtype(average.dtype) == wide


def test_clipping_and_accumulation_come_before_the_average():
    # The mean of 8 and 0 is 4, clipped to 1/2; then that of -8 and 0.
    how = {"threshold": 0.25, "gamma": 1.0}
    how |= {"clipvalue": 0.5, "gradient_accumulation_steps": 2}
    variable = keras.Variable([1.0, 0.5])
    bop = qf.optimizers.Bop(**how)
    actual = []
    for gradient in (8.0, 0.0, -8.0, 0.0):
        bop.apply([ops.convert_to_tensor([gradient, 0.0])], [variable])
        actual.append(ops.convert_to_numpy(variable).tolist())
    assert actual == [[1, 0.5], [-1, 1], [-1, 1], [1, 1]]
    assert int(bop.iterations) == 2


def test_a_loss_scale_factor_is_divided_out():
    (step,) = run([1.0], [[3.0]], threshold=0.5, gamma=1.0, loss_scale_factor=8.0)
    assert step.tolist() == [1]


def test_constraints_follow_the_step():
    variable = keras.Variable([1.0, -1.0])
    variable.constraint = qf.constraints.get("weight_clip(clip_value=0.5)")
    bop = qf.optimizers.Bop(threshold=0.25, gamma=1.0)
    bop.apply([ops.convert_to_tensor([1.0, 0.0])], [variable])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), [-0.5, -0.5])


def test_a_variable_without_gradient_is_left_alone():
    variables = [keras.Variable([0.5]), keras.Variable([0.5])]
    bop = qf.optimizers.Bop()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        bop.apply_gradients([(ops.ones(1), variables[0]), (None, variables[1])])
    assert [float(ops.convert_to_numpy(v)[0]) for v in variables] == [-1.0, 0.5]


def test_keras_callbacks_set_gamma():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    model.compile(qf.optimizers.Bop(gamma=0.5), "mse", **WITHOUT_XLA)
    x = np.ones((4, 3), "float32")
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model.fit(x, x[:, :2], epochs=2, verbose=0, callbacks=[halve])
    assert float(model.optimizer.gamma) == 0.125


def test_flips_the_rows_of_an_embedding():
    # On TensorFlow the gradient comes in slices.
    layer = qf.layers.QuantEmbedding(4, 2, embeddings_quantizer="noop(precision=1)")
    model = keras.Sequential([layer, keras.layers.Flatten()])
    model.compile(qf.optimizers.Bop(threshold=1e-3, gamma=1.0), "mse", **WITHOUT_XLA)
    x = np.array([[1, 1]])
    model(x)
    layer.set_weights([np.ones((4, 2), "float32")])
    model.train_on_batch(x, -np.ones((1, 4), "float32"))
    expected = [[1, 1], [-1, -1], [1, 1], [1, 1]]
    np.testing.assert_array_equal(layer.get_weights()[0], expected)


def test_other_precisions_are_not_binary():
    is_binary = qf.optimizers.Bop.is_binary_variable
    binary = {1: True, 2: False}
    for precision, expected in binary.items():
        layer = qf.layers.QuantDense(2, kernel_quantizer=f"noop(precision={precision})")
        layer.build((None, 3))
        assert is_binary(layer.kernel) is expected
        assert is_binary(layer.bias) is False
    layer = qf.layers.QuantDense(2, kernel_quantizer=lambda inputs: inputs)
    layer.build((None, 3))
    assert is_binary(layer.kernel) is False


def kernel_behind(quantizer):
    layer = qf.layers.QuantDense(
        2, kernel_quantizer=quantizer, kernel_constraint="weight_clip", use_bias=False
    )
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(qf.optimizers.Bop(threshold=1e-3, gamma=0.5), "mse", **WITHOUT_XLA)
    return model


@pytest.mark.parametrize(
    "quantizer", ["ste_sign", "magnitude_aware_sign", "noop(precision=1)"]
)
def test_quantizers_that_let_weights_flip(quantizer):
    model = kernel_behind(quantizer)
    model.set_weights([np.ones((3, 2))])
    x = np.ones((4, 3), "float32")
    model.fit(x, -3 * x[:, :2], verbose=0)  # any other warning of ours is an error
    np.testing.assert_array_equal(model.get_weights()[0], -np.ones((3, 2)))


@pytest.mark.parametrize(
    "quantizer", ["approx_sign", "swish_sign", "ste_sign(clip_value=0.5)"]
)
def test_quantizers_that_do_not_are_said(quantizer):
    model = kernel_behind(quantizer)
    model.set_weights([np.ones((3, 2))])
    x = np.ones((4, 3), "float32")
    with pytest.warns(StarvedWeightsWarning, match="gradient at -1 and 1 is"):
        model.fit(x, -3 * x[:, :2], verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((3, 2)))
