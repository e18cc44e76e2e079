"""Mixed models in LiteRT files: what has no quantizer is computed in float32."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from litert_layers import LEVELS, WEIGHTS, quantized
from qframe.errors import ArgumentError, ExportError, FloatLayersWarning
from qframe.layers.tree import iter_slots

pytest.importorskip("ai_edge_litert", reason="in the environment `tests`")
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
IMAGE, SEQUENCE = (6, 6, 3), (5, 4)
KEEP = "litert(floats='keep')"


# What precedes a quantizer of two levels, from integers.
BEFORE_TWO_LEVELS = {
    "add": lambda x: layers.Add()([x, quantized(layers.ReLU()(x))]),
    "average": lambda x: layers.Average()([x, layers.MaxPooling2D(3, 1, "same")(x)]),
    "average pool": layers.AveragePooling2D(2),
    "bilinear": layers.UpSampling2D(2, interpolation="bilinear"),
    "convolution": lambda x: conv(x, weights=WEIGHTS.replace("(", "(bits=4, ")),
    "maximum": lambda x: layers.Maximum()([x, layers.MaxPooling2D(3, 1, "same")(x)]),
    "mean": layers.GlobalAveragePooling2D(),
    "multiply": lambda x: layers.Multiply()([x, x]),
    "nothing": lambda x: x,
    "relu": layers.ReLU(),
    "sigmoid": layers.Activation("sigmoid"),
    "softmax": layers.Softmax(),
    "subtract": lambda x: layers.Subtract()([x, quantized(layers.ReLU()(x))]),
}


def conv(x, filters=4, weights=WEIGHTS, **options):
    return qf.layers.QuantConv2D(filters, 3, kernel_quantizer=weights, **options)(x)


def float_head(x):
    y = quantized(conv(quantized(x), activation="relu", use_bias=False))
    return layers.Dense(5, activation="softmax", name="head")(layers.Flatten()(y))


def float_stem(x):
    y = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    y = layers.BatchNormalization(name="norm")(y)
    return quantized(conv(quantized(y, LEVELS.replace("(", "(bits=4, ")), use_bias=False))


def two_readers(x):
    x = quantized(x)
    y = quantized(conv(x, 3, padding="same", use_bias=False))
    z = layers.Conv2D(3, 1, name="float")(x)
    return layers.Add(name="add")([y, z, layers.Activation("gelu", name="gelu")(x)])


def weights_only(x):
    y = conv(x, padding="same", pad_values=0.5, activation="elu", name="conv")
    return layers.GlobalAveragePooling2D(name="mean")(y)


def padded_integers(x):
    x = quantized(x, "dorefa(k_bit=8)")
    return layers.Flatten()(conv(x, padding="same", pad_values=1.0, name="conv"))


def float_kernel(x):
    return quantized(layers.Conv2D(4, 3, name="between")(quantized(x)))


def two_quantizers_of_an_input(x):
    few = LEVELS.replace("(", "(bits=4, ")
    return layers.Add(name="add")([quantized(x), quantized(x, few)])


def signs(x):
    y = layers.Conv2D(6, 1, name="stem")(x)
    dense = qf.layers.QuantDense(
        4, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="dense"
    )
    return layers.LeakyReLU()(dense(y))


def joined(x):
    """Of two grids, and another quantizer of the same numbers."""
    x = quantized(layers.LayerNormalization(name="norm")(quantized(x)))
    parts = [x, quantized(x, LEVELS.replace("(", "(bits=5, "))]
    return layers.Concatenate(name="joined")(parts)


def attention(x):
    return layers.MultiHeadAttention(2, 3, name="attention")(x, x)


def loops(x):
    """Two directions over integers, then one over what they return."""
    y = quantized(qf.layers.QuantConv1D(4, 2, kernel_quantizer=WEIGHTS)(quantized(x)))
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(y)
    return layers.Dense(3, name="head")(layers.LSTM(4, name="loop")(y))


def floats(x):
    """A network without any quantizer."""
    y = layers.Conv2D(8, 3, use_bias=False, name="conv")(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    y = layers.SeparableConv2D(6, 3, padding="same", activation="silu", name="pair")(y)
    y = layers.UpSampling2D(2, interpolation="bilinear", name="larger")(y)
    y = layers.AveragePooling2D(3, 2, padding="same", name="smaller")(y)
    y = layers.Conv2DTranspose(4, 3, strides=2, name="transposed")(y)
    y = layers.GlobalAveragePooling2D(name="mean")(y)
    return layers.Dense(10, activation="softmax", name="head")(y)


# Of each case: the shape of the input, the model, and the layers that are float.
CASES = {
    "a float head": (IMAGE, float_head, ["head"]),
    "a float stem": (IMAGE, float_stem, ["stem"]),
    "two readers": (IMAGE, two_readers, ["float", "gelu", "add"]),
    "weights only": (IMAGE, weights_only, ["conv", "mean"]),
    "padded integers": (IMAGE, padded_integers, ["conv", "flatten"]),
    "a float kernel": (IMAGE, float_kernel, ["between"]),
    "two quantizers of an input": (IMAGE, two_quantizers_of_an_input, ["add"]),
    "signs of floats": (IMAGE, signs, ["stem", "dense"]),
    "joined": (SEQUENCE, joined, ["norm", "joined"]),
    "loops": (SEQUENCE, loops, ["both", "loop", "head"]),
    "attention": (SEQUENCE, attention, ["attention"]),
    "floats": (
        IMAGE,
        floats,
        ["conv", "pair", "larger", "smaller", "transposed", "mean", "head"],
    ),
}


def built(case):
    """A model with calibrated quantizers, and data."""
    shape, function, _ = CASES[case]
    x = keras.Input(shape)
    model = keras.Model(x, function(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if any(word in weight.path for word in ("gamma", "moving_variance")):
            weight.assign(rng.uniform(0.3, 1.5, weight.shape))
        if any(word in weight.path for word in ("beta", "bias", "moving_mean")):
            weight.assign(rng.normal(size=weight.shape))
    data = rng.normal(size=(30, *shape)).astype("float32")
    if any(slot.quantizer.traits.ranged for slot in iter_slots(model)):
        qf.calibrate(model, data, verbose=0)
    return model, data


@pytest.mark.parametrize("case", CASES)
def test_a_mixed_file_computes_what_keras_does(case, tmp_path):
    model, data = built(case)
    path = tmp_path / "m.tflite"
    names = re.escape(", ".join(map(repr, CASES[case][2])))
    with pytest.warns(FloatLayersWarning, match=f"in float32: {names}\\."):
        qf.export(model, path, target=KEEP)
    expected = model.predict(data, verbose=0)
    for kernels, least in (("xnnpack", 1.0), ("builtin", 0.75)):
        found = qf.litert.load(path, kernels).predict(data)
        close = np.isclose(found, expected, rtol=1e-5, atol=1e-6 * np.ptp(expected))
        # One step in an integer changes all floats that follow from it.
        assert close.mean() >= least, kernels
        np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))


def test_integers_and_floats_of_a_mixed_file_are_verified(tmp_path):
    model, data = built("two readers")
    path = tmp_path / "m.tflite"
    with pytest.warns(FloatLayersWarning):
        qf.export(model, path, target="litert(floats='keep', inputs='float', batch=30)")
    verified = qf.verify(model, path, data, verbose=0)
    assert [output.agreement.equal for output in verified.outputs] == [1]
    edges = {edge.name: edge.agreement for edge in verified.edges}
    assert {"float", "gelu", "add"} <= {*edges}
    assert all(edge.equal == 1 for edge in edges.values())
    # Those that are integers count in steps.
    assert {edge.within_one_step for edge in edges.values()} == {None, 1.0}


def test_a_model_of_integers_has_the_same_bytes_as_without_the_option(tmp_path):
    x = keras.Input(IMAGE)
    model = keras.Model(x, quantized(layers.GlobalAveragePooling2D()(quantized(x))))
    qf.calibrate(model, np.ones((2, *IMAGE), "float32"), verbose=0)
    contents = []
    for target in ("litert", KEEP):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            qf.export(model, tmp_path / "m.tflite", target=target)
        contents.append((tmp_path / "m.tflite").read_bytes())
    assert contents[0] == contents[1]


def test_what_is_not_float_either_is_refused_with_the_cure(tmp_path):
    x = keras.Input(SEQUENCE)
    y = layers.LSTM(3, name="loop")(layers.Dense(4, name="dense")(x))
    advice = r"Give each other one .* with any quantizers \('loop'\): write litert"
    with pytest.raises(ExportError, match=advice):
        qf.export(keras.Model(x, y), tmp_path / "m.tflite", target="litert")
    y = layers.RNN(layers.LSTMCell(3), name="cells")(x)
    with pytest.raises(ExportError, match=r"'cells'.* Replace it with keras.layers.LSTM"):
        qf.export(keras.Model(x, y), tmp_path / "m.tflite", target=KEEP)
    model = keras.Model(x, layers.Dense(4, name="dense")(x))
    with pytest.raises(ExportError, match=r"'dense'.* or write litert\(floats='keep'\)"):
        qf.export(model, tmp_path / "m.tflite", target="litert")
    with pytest.raises(ArgumentError, match=r"floats.* 'refuse'"):
        qf.export(model, tmp_path / "m.tflite", target="litert(floats='float16')")
    assert not [*tmp_path.iterdir()]


ROUNDED = {"add", "average", "bilinear", "maximum", "mean", "multiply", "softmax"}
ROUNDED |= {"subtract"}


@pytest.mark.parametrize("levels", ["ste_sign", "ste_heaviside"])
@pytest.mark.parametrize("before", BEFORE_TWO_LEVELS)
def test_two_levels_are_right_or_refused(before, levels, tmp_path):
    """Where the runtime rounds, numbers between them would come out."""
    x = keras.Input(IMAGE)
    y = BEFORE_TWO_LEVELS[before](quantized(x))
    model = keras.Model(x, qf.quantizers.get(levels)(y))
    model.run_eagerly = True
    data = np.random.default_rng(0).normal(size=(9, *IMAGE)).astype("float32")
    qf.calibrate(model, data, verbose=0)
    path, targets = tmp_path / "m.tflite", ["litert", KEEP]
    if before in ROUNDED:
        with pytest.raises(ExportError, match="Put a quantizer of more levels"):
            qf.export(model, path, target=targets.pop(0))
    for target in targets:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FloatLayersWarning)
            qf.export(model, path, target=target)
        found = qf.litert.load(path).predict(data)
        # A mean of Keras may be beside 0 where that of integers is 0.
        assert np.mean(found == model.predict_on_batch(data)) > 0.98, target
    with pytest.raises(ExportError, match=r"litert\(activations=16\)|16|apart"):
        qf.export(model, path, target="litert(activations=16)")
