"""Code of a subclass, or of a single layer, in the place of a method of Keras."""

import inspect
import sys

import keras
import pytest

import qframe as qf
from qframe.deployment.lowering.layers import lowerings
from qframe.keras_internals.overrides import methods_of_call, override_of

LAYERS = lowerings()

ARGUMENTS = {
    **dict.fromkeys(["AveragePooling1D", "AveragePooling2D", "RepeatVector"], (2,)),
    **dict.fromkeys(["Conv1D", "Conv2D", "SeparableConv1D", "SeparableConv2D"], (4, 3)),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], (3,)),
    **dict.fromkeys(
        ["AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"], (0.5,)
    ),
    **dict.fromkeys(["SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"], (0.5,)),
    **dict.fromkeys(["Conv1DTranspose", "Conv2DTranspose"], (4, 3)),
    **dict.fromkeys(["GRU", "LSTM", "SimpleRNN"], (3,)),
    "Activation": ("relu",),
    "Bidirectional": (keras.layers.LSTM(3),),
    "CustomScaleLayer": (0.5,),
    "Dense": (4,),
    "Dot": (2,),
    "EinsumDense": ("abcd,de->abce", (4, 4, 3)),
    "Embedding": (4, 3),
    "GroupNormalization": (2,),
    "LayerScale": (0.5, 2),
    "MultiHeadAttention": (1, 2),
    "Normalization": (-1, [0.5, 1.0], [2.0, 1.0]),
    "Permute": ((3, 1, 2),),
    "Rescaling": (2.0,),
    "Reshape": ((-1,),),
    "StochasticDepth": (0.5,),
}
# By the end of the name of a class; `RepeatVector` takes a vector.
SHAPES = {"1D": (4, 2), "3D": (4, 4, 4, 2), "or": (2,)}
UNUSED = ("get_config", "build", "compute_output_shape", "compute_mask", "add_loss")


def made(cls, base=None):
    return cls(*ARGUMENTS.get((base or cls).__name__, ()))


def overriding(cls, name):
    """A subclass with a method, or property, that does what Keras's does."""
    result = inspect.getattr_static(cls, name, None)
    if isinstance(result, property):
        own = property(lambda self: result.fget(self), result.fset)
    else:

        def own(self, *args, **kwargs):
            return getattr(super(made_here, self), name)(*args, **kwargs)

    made_here = type("Mine", (cls,), {name: own, "__module__": __name__})
    return made_here


def inputs_of(layer):
    """The arguments of a call: a tensor, a list of two, or two."""
    name = type(layer).__name__
    sequence = name in (
        *("Attention", "Conv1DTranspose", "Dot", "MultiHeadAttention"),
        *("Bidirectional", "GRU", "LSTM", "SimpleRNN"),
    )
    shape = SHAPES["1D"] if sequence else SHAPES.get(name[-2:], (4, 4, 2))
    x = keras.ops.ones((1, *shape))
    if name == "MultiHeadAttention":
        return x, x
    pairs = hasattr(layer, "_merge_function") or name == "CustomScaleLayer"
    return ([x, x],) if pairs or name in ("Attention", "Dot") else (x,)


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_the_methods_are_those_that_a_call_runs(cls):
    """Those that Python is seen to run for the layer are among them."""
    layer = made(cls)
    layer(*inputs_of(layer))
    seen = set()

    def watch(frame, event, _):
        method = frame.f_code.co_varnames[:1] == ("self",)  # no function within one
        if event == "call" and method and frame.f_locals["self"] is layer:
            seen.add(frame.f_code.co_name)

    sys.setprofile(watch)
    try:
        for training in (False, True):
            taken = "training" in inspect.signature(layer.call).parameters
            layer.call(*inputs_of(layer), **({"training": training} if taken else {}))
    finally:
        sys.setprofile(None)
    assert "call" in seen
    # Setting an attribute is not a method that a layer would override.
    assert seen - {"__setattr__"} <= methods_of_call(cls)


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_each_method_that_a_call_uses_is_known_when_overridden(cls):
    assert override_of(made(cls)) is None
    for name in methods_of_call(cls):
        actual = override_of(made(overriding(cls, name), cls))
        assert (actual.owner, actual.base, actual.method) == ("Mine", cls.__name__, name)
    unused = [n for n in UNUSED if hasattr(cls, n) and n not in methods_of_call(cls)]
    assert len(unused) > 3
    for name in unused:
        assert override_of(made(overriding(cls, name), cls)) is None


def test_methods_of_a_convolution():
    assert {"call", "convolution_op", "kernel"} <= methods_of_call(keras.layers.Conv2D)
    assert "_merge_function" in methods_of_call(keras.layers.Add)
    x = keras.Input((1,))
    model = keras.Model(x, keras.layers.Identity()(x))
    assert "_run_through_graph" in methods_of_call(type(model))


class Standardized(keras.layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel))


class QuantStandardized(qf.layers.QuantConv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel))


class Mixin:
    def convolution_op(self, inputs, kernel):
        return inputs


class Mixed(keras.layers.Conv2D, Mixin):
    pass


class Doubled(keras.layers.Dense):
    """Its bias is an attribute in Keras, and a property here."""

    @property
    def bias(self):
        return 2 * self._own

    @bias.setter
    def bias(self, value):
        self._own = value


def single():
    layer = keras.layers.Conv2D(4, 3)
    layer.convolution_op = lambda inputs, kernel: inputs
    return layer


@pytest.mark.parametrize(
    ("layer", "owner", "method"),
    [
        (lambda: Standardized(4, 3), "Standardized", "convolution_op"),
        (lambda: QuantStandardized(4, 3), "QuantStandardized", "convolution_op"),
        (lambda: Mixed(4, 3), "Mixin", "convolution_op"),
        (lambda: Doubled(4), "Doubled", "bias"),
        (single, "the layer ", "convolution_op"),
    ],
)
def test_overrides_in_other_places(layer, owner, method):
    actual = override_of(layer())
    assert actual.owner.startswith(owner)
    assert actual.method == method
    assert str(actual).endswith(f"which the call of {actual.base} uses")


def test_a_method_of_keras_that_was_replaced(monkeypatch):
    monkeypatch.setattr(keras.layers.Conv2D.__mro__[1], "convolution_op", lambda *_: None)
    assert override_of(keras.layers.Conv2D(4, 3)).method == "convolution_op"


def test_quantized_layers_are_keras():
    assert override_of(qf.layers.QuantConv2D(4, 3)) is None
    layer = qf.layers.QuantDense(4, kernel_quantizer="dorefa(mode='weights')")
    assert override_of(layer) is None
