"""The notes on settings that cannot work, compared with outputs of the models."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from qframe.errors import ConstantActivationsWarning

pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
    pytest.mark.filterwarnings("ignore::qframe.errors.ConstantActivationsWarning"),
]

SIGN = {"input_quantizer": "ste_sign"}
SIGNS = ["ste_sign", "approx_sign", "swish_sign", "dorefa_sign", "magnitude_aware_sign"]
OTHERS = ["ste_heaviside", "ste_tern", "noop(precision=1)", "dorefa(k_bit=2)", "lsq"]

ACTIVATIONS = [
    *("relu", "relu6", "sigmoid", "softmax", "exponential"),
    *("linear", "tanh", "leaky_relu", "gelu"),
]


def network(*between):
    stem = layers.Conv2D(4, 3, name="stem", bias_initializer="glorot_normal")
    head = layers.Dense(3, name="head")
    parts = [keras.Input((8, 8, 2)), stem, *between, layers.Flatten(), head]
    return keras.Sequential(parts)


def is_constant(model):
    """Return whether very different inputs give one output."""
    x = np.random.default_rng(0).normal(size=(64, *model.input_shape[1:])) * 9
    returned = ops.convert_to_numpy(model(x.astype("float32")))
    return bool((returned == returned[:1]).all())


def check(model, reader="head"):
    """Hold what is said before, by the pass and after to what the model returns."""
    rules = [(lambda layer: layer.name == reader, SIGN)]
    planned = qf.plan(model, rules).notes
    assert qf.quantize(model, rules).notes == planned
    said = qf.models.profile(model).notes
    assert said == planned
    assert bool(said) == is_constant(model)
    return said


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_sign_of_an_activation_is_noted_where_the_model_is_constant(name):
    x = keras.Input((4,))
    apart = layers.Activation(name)(layers.Dense(8)(x))
    for made in (layers.Dense(8, activation=name)(x), apart):
        check(keras.Model(x, layers.Dense(3, name="head")(made)))


shifted = keras.initializers.Constant(-1.0)
BETWEEN = {
    "none": [],
    "pools": [layers.MaxPooling2D, lambda: layers.AveragePooling2D(2)],
    "shapes": [lambda: layers.Reshape((12, 12)), lambda: layers.Permute((2, 1))],
    "dropout": [lambda: layers.Dropout(0.5), layers.Identity, layers.ZeroPadding2D],
    "upsampling": [lambda: layers.UpSampling2D(interpolation="bilinear")],
    "bicubic": [lambda: layers.UpSampling2D(interpolation="bicubic")],
    "rescaled": [lambda: layers.Rescaling(2.0, offset=1.0)],
    "shifted": [lambda: layers.Rescaling(1.0, offset=-1.0)],
    "batch normalization": [lambda: layers.BatchNormalization(beta_initializer=shifted)],
    "layer normalization": [layers.LayerNormalization],
    "a function of the user": [lambda: layers.Lambda(lambda x: x - 1.0)],
    "another activation": [layers.LeakyReLU, lambda: layers.Activation("tanh")],
}


@pytest.mark.parametrize("name", BETWEEN)
def test_a_relu_is_seen_through_what_keeps_the_sign_alone(name):
    check(network(layers.ReLU(6.0), *(make() for make in BETWEEN[name])))


def test_the_note_names_both_layers_and_the_cures():
    model = network(layers.ReLU(name="rectified"))
    with pytest.warns(ConstantActivationsWarning) as warned:
        (note,) = qf.plan(model, "bnn").notes
    # The backend may issue unrelated warnings.
    (warning,) = (w for w in warned if w.category is ConstantActivationsWarning)
    assert str(warning.message) == note
    assert warning.filename == __file__
    for part in ("'head'", "'rectified'", "ste_sign", "input_quantizer=None"):
        assert part in note
    assert "BatchNormalization()" in note
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConstantActivationsWarning)
        with pytest.raises(ConstantActivationsWarning):
            qf.quantize(model, "bnn")
    assert type(model.get_layer("head")) is layers.Dense
    assert qf.plan(model, {"kernel_quantizer": "ste_sign"}).notes == ()


@pytest.mark.parametrize("quantizer", [*SIGNS, *OTHERS])
def test_a_quantizer_is_asked_what_it_does(quantizer):
    model = network(layers.ReLU())
    report = qf.plan(model, [("Dense", {"input_quantizer": quantizer})])
    notes = [note for note in report.notes if "never negative" in note]
    numbers = np.linspace(0, 3, 50, dtype="float32")[:, None]
    actual = ops.convert_to_numpy(qf.quantizers.get(quantizer)(numbers))
    assert bool(notes) == (np.ptp(actual) == 0) == (quantizer in SIGNS)


def test_functions_and_outputs_are_asked_too():
    model = network(layers.ReLU())
    rule = [("Dense", {"input_quantizer": lambda x: ops.sign(x + 1)})]
    (note,) = qf.plan(model, rule).notes
    assert "'head'" in note
    rule = [("Conv2D", {"output_quantizer": "ste_sign"})]
    assert qf.plan(model, rule).notes == ()
    model.get_layer("stem").activation = keras.activations.relu
    (note,) = qf.plan(model, rule).notes
    assert "BatchNormalization" not in note


def test_a_quantizer_that_is_a_layer_or_an_activation_is_noted():
    sign = qf.quantizers.SteSign
    for made in (sign(name="sign"), layers.Activation(sign(), name="sign")):
        model = network(layers.ReLU(), made)
        (note,) = qf.models.profile(model).notes
        assert "'sign'" in note
        assert is_constant(model)


def operations(x):
    x = layers.Dense(8)(x)
    yield "relu", ops.relu(x), True
    yield "reshape", ops.reshape(ops.abs(x), (-1, 2, 4)), True
    yield "sliced", ops.square(x)[:, 2:], True
    yield "mean", ops.mean(ops.reshape(ops.exp(x), (-1, 2, 4)), axis=1), True
    yield "sum of two", ops.relu(x) + ops.abs(x), True
    yield "concatenation", layers.Concatenate()([ops.relu(x), ops.abs(x)]), True
    yield "one of two", layers.Add()([ops.relu(x), x]), False
    yield "difference", ops.relu(x) - ops.abs(x) / 2, False
    yield "negated", ops.relu(x) * -1.0 + 0.5, False
    yield "scaled", ops.relu(x) * 2.0, True
    yield "shifted", ops.relu(x) - 0.5, False


def test_operations_of_a_graph_are_followed():
    x = keras.Input((4,))
    for name, tensor, constant in operations(x):
        flat = layers.Flatten()(tensor)
        notes = check(keras.Model(x, layers.Dense(3, name="head")(flat)))
        assert bool(notes) is constant, name


def test_nested_and_wrapped_and_recurrent_readers_are_found():
    x = keras.Input((4, 3))
    y = layers.Dense(3, activation="relu", name="maker")(x)
    inner = keras.Sequential([keras.Input((4, 3)), layers.Identity(), layers.Dense(2)])
    made = layers.TimeDistributed(layers.ReLU())(x)
    outputs = [
        inner(y),
        layers.TimeDistributed(layers.Dense(2))(y),
        layers.LSTM(2)(y),
        layers.Bidirectional(layers.GRU(2))(y),
        layers.Dense(2)(made),
        layers.Dense(2)(layers.LSTM(2, activation="relu")(x)),
        layers.Dense(2)(keras.Sequential([layers.Identity(), inner])(x)),
    ]
    counts = [len(qf.plan(keras.Model(x, out), SIGN).notes) for out in outputs]
    assert counts == [1, 1, 1, 2, 1, 0, 0]


class Coded(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(3, activation="relu"), layers.Dense(2)
        self.inside = network(layers.ReLU())

    def call(self, x):
        return self.b(self.a(x) - 1), self.inside(ops.reshape(x, (-1, 8, 8, 2)))


def test_of_code_nothing_is_said_but_of_the_graphs_in_it():
    model = Coded()
    model(np.zeros((1, 128), "float32"))
    (note,) = qf.plan(model, SIGN).notes
    assert "head" in note
