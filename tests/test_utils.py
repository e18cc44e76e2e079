"""Helpers under the names that Larq has for them."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import AmbiguousNameError, ArgumentError, QFrameError, UnknownNameError
from qframe.registry.discovery import registry


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "0.00 B"),
        (12, "1.50 B"),
        (8 * 1024, "1.00 KiB"),
        (8 * 1024**2 * 2.5, "2.50 MiB"),
        (8 * 1024**3, "1.00 GiB"),
        (8 * 1024**4, "1024.00 GiB"),
    ],
)
def test_sizes(bits, text):
    assert qf.utils.memory_as_readable_str(bits) == text


@pytest.fixture
def names():
    assert qf.layers
    assert qf.constraints  # which register with Keras, and are to stay there
    before = dict(keras.saving.get_custom_objects())
    yield keras.saving.get_custom_objects()
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)


def test_keras_finds_what_is_registered(names):
    @qf.utils.register_alias("thrice")
    @qf.utils.register_keras_custom_object
    def tripled(x):
        return 3 * x

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation=tripled)])
    again = keras.Sequential.from_config(model.get_config())
    assert again.layers[0].activation is tripled
    assert names["thrice"] is tripled


@pytest.fixture
def doubled_sign():
    """A new function in each test: Keras keeps the name that it gave one."""

    def doubled_sign(x):
        return 2 * keras.ops.sign(x)

    return doubled_sign


def aliased(function):
    return qf.utils.register_alias("twofold")(
        qf.utils.register_keras_custom_object(function)
    )


@pytest.mark.parametrize(
    ("register", "name"),
    [
        (qf.utils.register_keras_custom_object, "doubled_sign"),
        (aliased, "twofold"),
        (keras.saving.register_keras_serializable("mine", "other"), "mine>other"),
    ],
)
def test_a_registered_function_is_a_quantizer_by_its_name(
    names, doubled_sign, register, name
):
    register(doubled_sign)
    assert qf.quantizers.get(name) is doubled_sign
    layer = qf.layers.QuantDense(2, kernel_quantizer=name)
    values = keras.ops.convert_to_numpy(layer(np.eye(3, dtype="float32")))
    assert set(values.ravel()) <= {-2.0, 2.0}
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    rules = qf.Recipe([(None, {"kernel_quantizer": name})])
    assert qf.quantize(model, rules).quantized
    assert model.layers[0].quantizers["kernel"] is doubled_sign
    with pytest.raises(UnknownNameError):
        qf.quantizers.get("doubled_sine")
    # Older Keras saves a function by its own name, whatever it is registered as.
    if ">" not in name or name in str(keras.saving.serialize_keras_object(doubled_sign)):
        again = type(layer).from_config(layer.get_config())
        assert again.kernel_quantizer is doubled_sign


def test_a_registered_layer_and_constraint_are_made_by_their_names(names):
    @qf.utils.register_keras_custom_object
    class Halving(keras.constraints.Constraint):
        def __call__(self, w):
            return w / 2

    qf.utils.register_keras_custom_object(Turned)
    layer = qf.layers.QuantDense(2, kernel_quantizer="Turned", kernel_constraint="Halving")
    assert isinstance(layer.kernel_quantizer, Turned)
    assert isinstance(layer.kernel_constraint, Halving)


def test_a_registered_name_that_a_plugin_offers_too_is_an_error(names, doubled_sign):
    qf.utils.register_alias("ste_sign")(doubled_sign)
    with pytest.raises(AmbiguousNameError, match="'binary:ste_sign'"):
        qf.quantizers.get("ste_sign")
    assert repr(qf.quantizers.get("binary:ste_sign")).startswith("binary:ste_sign")


LARQ = """
import keras, sys
import qframe as qf

@qf.utils.register_alias("halving")
@qf.utils.register_keras_custom_object
class HalfSign(qf.quantizers.Quantizer):
    precision = 1

    def value(self, inputs):
        return keras.ops.sign(inputs) / 2

    def gradient(self, inputs):
        return 0.5 + 0 * inputs

if len(sys.argv) > 2:
    layers = [qf.layers.QuantDense(2, kernel_quantizer=name) for name in sys.argv[2:]]
    keras.Sequential([keras.Input((4,)), *layers]).save(sys.argv[1])
else:
    for layer in qf.load_model(sys.argv[1]).layers:
        print(type(layer.kernel_quantizer) is HalfSign)
"""


def test_register_as_in_larq_offers_a_quantizer_in_every_process(tmp_path):
    path, names = str(tmp_path / "m.keras"), ["HalfSign", "local:half_sign", "halving"]
    for arguments in ([path, *names], [path]):
        program = [sys.executable, "-c", LARQ, *arguments]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 3


@pytest.fixture
def half_sign(names):
    yield type(
        "HalfSign", (qf.quantizers.Quantizer,), {"value": lambda self, inputs: inputs / 2}
    )
    registry.forget_local()


def test_register_alias_of_a_quantizer_offers_it_under_that_name(half_sign):
    assert qf.utils.register_alias("halving")(half_sign) is half_sign
    assert type(qf.quantizers.get("local:halving")) is half_sign
    assert repr(half_sign()) == "local:halving"
    with pytest.raises(UnknownNameError):
        qf.quantizers.get("half_sign")


def test_register_alias_of_a_constraint_offers_it_under_that_name(names):
    class Twice(qf.constraints.Constraint):
        def __call__(self, w):
            return 2 * w

    qf.utils.register_keras_custom_object(Twice)
    try:
        for name in ("Twice", "twice"):
            assert type(qf.constraints.get(name)) is Twice
    finally:
        registry.forget_local()


def plain(x):
    return keras.ops.sign(x)


class Called:
    def __call__(self, x):
        return keras.ops.sign(x)


class Turned(keras.layers.Layer):
    def call(self, x):
        return -x


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: plain, r"Write qframe.utils.register_keras_custom_object\(plain\)"),
        (lambda: lambda x: x, "Give it a name, by def or class"),
        (lambda: functools.partial(plain), r"register_keras_custom_object\(f\)"),
        (Called, r"register_keras_custom_object\(f\)"),
        (lambda: Called().__call__, "register_keras_custom_object"),
        (lambda: abs, "register_keras_custom_object"),
        (lambda: np.sign, "register_keras_custom_object"),
        # Keras finds again those of its functions that are activations too.
        (lambda: keras.ops.sign, r"register_keras_custom_object\(sign\)"),
        (Turned, r"register_keras_custom_object\(Turned\)"),
    ],
    ids=range(9),
)
# A function of NumPy that is given a tensor of PyTorch.
@pytest.mark.filterwarnings("ignore:__array_wrap__")
@pytest.mark.parametrize("slot", ["kernel", "input"])
def test_save_with_a_quantizer_that_cannot_be_loaded_is_an_error(
    tmp_path, names, make, hint, slot
):
    layer = qf.layers.QuantDense(2, **{f"{slot}_quantizer": make()})
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(QFrameError, match=f"(?s)is not registered, so a saved .*{hint}"):
        model.save(tmp_path / "m.keras")


@pytest.mark.parametrize("wanted", ["plain", "Turned", "sign", "tanh", "relu", "ReLU"])
def test_save_with_a_callable_that_is_registered_loads(tmp_path, names, wanted):
    made = {
        "plain": lambda: qf.utils.register_keras_custom_object(plain),
        "Turned": lambda: qf.utils.register_keras_custom_object(Turned)(),
        "sign": lambda: qf.utils.register_keras_custom_object(keras.ops.sign),
        "tanh": lambda: keras.ops.tanh,
        "relu": lambda: keras.activations.relu,
        "ReLU": keras.layers.ReLU,
    }[wanted]()
    layer = qf.layers.QuantDense(2, input_quantizer=made)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / "m.keras")
    x = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)
    again = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_summary_reads_a_stated_precision():
    @qf.utils.set_precision(2)
    def quarters(x):
        return keras.ops.round(x)

    layer = qf.layers.QuantDense(4, kernel_quantizer=quarters, use_bias=False)
    model = keras.Sequential([keras.Input((8,)), layer])
    assert qf.models.profile(model).memory == 4 * 8 * 2
    for wrong in (0, 65, "1", True):
        with pytest.raises(ArgumentError, match="precision of set_precision"):
            qf.utils.set_precision(wrong)
