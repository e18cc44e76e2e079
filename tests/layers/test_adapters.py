"""Which weights a layer class has: from this process, and from plugins."""

import sys

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import AmbiguousNameError, ArgumentError, PluginError, QFrameError
from qframe.layers.adapters import Adapter, Weight, adapter_of
from qframe.registry.components import adapter
from qframe.registry.discovery import registry


@pytest.fixture(autouse=True)
def forget():
    yield
    registry.forget_local()


LAYERS = """
import keras

class Scale(keras.layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1], 4))
        self.b = self.add_weight(name="b", shape=(4,))
    def call(self, x):
        return keras.ops.matmul(x, self.w) + self.b

class Fine(Scale):
    pass

class Plain(keras.layers.Dense):
    pass

def make():
    pass
"""
SCALE = Adapter((Weight("w", "kernel", -1), Weight("b", "bias", None)))


@pytest.fixture
def install(install):
    """Put a plugin that yields some adapters on the path, and a package with layers."""

    def write(namespace, *adapters, layers=LAYERS):
        lines = "".join(f"    yield adapter({arguments})\n" for arguments in adapters)
        manifest = (
            "import qframe\nfrom qframe.registry.components import adapter\n"
            f"@qframe.hookimpl\ndef qframe_components():\n{lines}"
        )
        package = install(namespace, manifest, f"{namespace}-quant") / namespace / "layers"
        package.mkdir(parents=True)
        (package / "_inner.py").write_text(layers)
        (package / "__init__.py").write_text(f"from {namespace}.layers._inner import *")

    return write


def layer_class(namespace, name):
    return getattr(__import__(f"{namespace}.layers").layers, name)


def test_a_plugin_says_which_weights_a_layer_has(install):
    # By the name that its package exports, which is not where the class is defined.
    install("acme", "'acme.layers:Scale', kernel='w', bias='b'")
    scale = layer_class("acme", "Scale")
    assert scale.__module__ == "acme.layers._inner"
    assert adapter_of(scale) == SCALE
    assert adapter_of(layer_class("acme", "Fine")) == SCALE
    assert adapter_of(layer_class("acme", "Plain")) == adapter_of(keras.layers.Dense)
    assert adapter_of(keras.layers.ReLU) is None


def test_the_nearest_class_decides(install):
    install("acme", "'acme.layers:Plain', kernel='kernel'")
    adapter = adapter_of(layer_class("acme", "Plain"))
    assert adapter == Adapter((Weight("kernel", "kernel", -1),))
    assert adapter_of(keras.layers.Dense) != adapter


def test_names_of_the_process_precede_others(install, monkeypatch):
    install("acme", "'acme.layers:Scale', kernel='w', bias='b'")
    scale = layer_class("acme", "Scale")
    qf.register_layer(scale, kernel="b", channel_axis=0)
    assert adapter_of(scale) == Adapter((Weight("b", "kernel", 0),))


def test_a_model_is_quantized_by_the_adapter_of_a_plugin(install, monkeypatch):
    install("acme", "'acme.layers:Scale', kernel='w', bias='b'")
    layer = layer_class("acme", "Scale")()
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(2)])
    rules = {"weight_quantizer": "ste_sign", "weight_constraint": "weight_clip"}
    report = qf.quantize(model, rules)
    assert [row.path for row in report.quantized] == [layer.name, "dense"]
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in layer.weights)
    expected = np.ones((1, 3), "float32") @ np.sign(kernel) + bias
    actual = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 3))))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    qf.strip(model)
    monkeypatch.setenv("QFRAME_DISABLE_PLUGINS", "acme")
    registry.reset()
    report = qf.plan(model, rules, strict=False)
    assert [row.path for row in report.quantized] == ["dense"]


def test_nothing_is_imported_for_layers_of_other_packages(install):
    install("acme", "'acme.layers:Scale', kernel='w'")
    assert adapter_of(keras.layers.ReLU) is None
    assert adapter_of(qf.layers.QuantDense) is not None
    assert "acme.layers" not in sys.modules


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("import does_not_exist", "cannot be loaded: ModuleNotFoundError"),
        (
            LAYERS.replace("class Scale", "class Scales", 1).replace("(Scale)", "(Scales)"),
            "cannot be loaded: AttributeError",
        ),
        (LAYERS + "Scale = make", "is not a Keras layer class but <function make"),
        (LAYERS + "Scale = int", "is not a Keras layer class but <class 'int'>"),
    ],
)
def test_a_broken_target_is_an_error_for_its_own_package_only(install, layers, message):
    install("acme", "'acme.layers:Scale', kernel='w'", layers=layers)

    stranger = type("Scale", (keras.layers.Layer,), {})
    ours = type("Scale", (keras.layers.Layer,), {"__module__": "acme.other"})
    assert adapter_of(stranger) is None
    assert adapter_of(keras.layers.ReLU) is None
    for _ in range(2):
        with pytest.raises(PluginError, match=message) as caught:
            adapter_of(ours)
    assert "(distribution acme-quant)" in str(caught.value)


def test_plugins_that_agree_on_a_class_may_both_know_it(install):
    install("acme", "'acme.layers:Scale', kernel='w', bias='b'")
    install("mate", "'acme.layers:Scale', kernel='w', bias='b'")
    assert adapter_of(layer_class("acme", "Scale")) == SCALE


def test_plugins_that_differ_are_an_error_until_the_user_decides(install, monkeypatch):
    install("acme", "'acme.layers:Scale', kernel='w', bias='b'")
    install("mate", "'acme.layers:Scale', kernel='b'")
    scale = layer_class("acme", "Scale")
    with pytest.raises(AmbiguousNameError, match=r"'acme:Scale', 'mate:Scale'.*register_"):
        adapter_of(scale)
    qf.register_layer(scale, kernel="w", bias="b")
    assert adapter_of(scale) == SCALE


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no weight is named"),
        ({"kernel": "a b"}, "kernel='a b' names no attribute"),
        ({"input": "w"}, "input_quantizer is that of an activation"),
    ],
)
def test_registration_is_checked(weights, message):
    with pytest.raises(ArgumentError, match=message):
        qf.register_layer(type("Scale", (keras.layers.Layer,), {}), **weights)


@pytest.mark.parametrize("wrong", [int, keras.layers.ReLU(), "Scale", None])
def test_only_layer_classes_are_registered(wrong):
    with pytest.raises(ArgumentError, match="takes a Keras layer class"):
        qf.register_layer(wrong, kernel="w")


class Several(keras.layers.Layer):
    """A layer that keeps its weights in a list, a dict and an attribute."""

    def build(self, shape):
        self.several = [self.add_weight(name=f"w{i}", shape=(4, 4)) for i in range(2)]
        self.named = {"w": self.several[0]}
        self.number = 4
        self.w = self.several[1]

    def call(self, x):
        return keras.ops.matmul(keras.ops.matmul(x, self.several[0]), self.w)


@pytest.mark.parametrize("attribute", ["several[0]", "several.0", "named['w']", ""])
def test_register_layer_of_a_weight_in_a_list_says_what_works(attribute):
    for register in (qf.register_layer, lambda cls, **k: adapter("acme:Several", **k)):
        with pytest.raises(
            QFrameError, match=r"write self\.w = self\.add_weight\(\.\.\.\)"
        ):
            register(Several, kernel=attribute)


@pytest.mark.parametrize("others", [{}, {"kernel": "w"}], ids=["alone", "beside another"])
def test_quantize_of_a_registered_attribute_that_is_missing_is_an_error(others):
    cls = type("Another", (Several,), {})
    qf.register_layer(cls, **others, other="v")
    layer = cls(name="l")
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(ArgumentError, match=r"='v', and 'l' has no attribute 'v'\. Write"):
        qf.quantize(model, {"weight_quantizer": "ste_sign"})
    assert type(layer) is cls


@pytest.mark.parametrize("attribute", ["several", "named", "number"])
def test_quantize_of_a_registered_attribute_that_is_no_weight_says_what_works(attribute):
    cls = type("Another", (Several,), {})
    qf.register_layer(cls, kernel=attribute)
    layer = cls(name="l")
    model = keras.Sequential([keras.Input((4,)), layer])
    said = rf"kernel='{attribute}', and that attribute of 'l' is a \w+, not a weight; .*"
    with pytest.raises(
        ArgumentError, match=said + r"register_layer\(Another, kernel='w'\)"
    ):
        qf.quantize(model, {"kernel_quantizer": "ste_sign"})
    assert type(layer) is cls
    qf.register_layer(cls, kernel="w")
    qf.quantize(model, {"kernel_quantizer": "ste_sign"})
    x = np.eye(4, dtype="float32")
    first, second = (np.array(w) for w in layer.several)
    expected = first @ np.where(second >= 0, 1, -1)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)


def test_forget_local_forgets_layers_and_leaves_those_of_keras():
    dense = adapter_of(keras.layers.Dense)
    qf.register_layer(Several, kernel="w")
    qf.register_layer(keras.layers.Dense, recurrent="kernel")
    assert adapter_of(Several).slots == ("input", "kernel", "output")
    assert adapter_of(keras.layers.Dense).slots == ("input", "recurrent", "output")
    registry.forget_local()
    assert adapter_of(Several) is None
    assert adapter_of(keras.layers.Dense) is dense
