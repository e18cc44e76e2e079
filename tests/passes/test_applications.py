"""One recipe quantizes every family of `keras.applications`."""

import gc
import inspect

import keras
import numpy as np
import pytest

import qframe as qf

WEIGHTS_ONLY = {"weight_quantizer": "ste_sign", "weight_constraint": "weight_clip"}
RECIPE = [
    (qf.first, WEIGHTS_ONLY),
    (keras.layers.Layer, {**WEIGHTS_ONLY, "input_quantizer": "ste_sign"}),
]
APPLICATIONS = dict(inspect.getmembers(keras.applications, inspect.isfunction))
# The others of a family have more of the same layers.
FAMILIES = {
    "ConvNeXt": "Tiny",
    "DenseNet": "121",
    "EfficientNetB": "0",
    "EfficientNetV2": "B0",
    "Inception": "V3",
    "InceptionResNet": "V2",
    "MobileNet": "",
    "MobileNetV2": "",
    "MobileNetV3": "Small",
    "NASNet": "Mobile",
    "ResNet": "50",
    "ResNet50V2": "",
    "VGG": "16",
    "Xception": "",
}


def build(name):
    """The model for the smallest images that it takes."""
    for size in (32, 75):
        try:
            return APPLICATIONS[name](weights=None, classes=2, input_shape=(size, size, 3))
        except ValueError as too_small:
            error = too_small
    raise error


def layers_of(model):
    """The layers by path; those of ConvNeXt are partly in models within the model."""
    result = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            result |= {f"{layer.name}/{path}": v for path, v in layers_of(layer).items()}
        else:
            result[layer.name] = layer
    return result


def having(layers, *attributes):
    """The paths of the layers that have something under one of these attributes."""
    return {
        path
        for path, layer in layers.items()
        if any(getattr(layer, attribute, None) is not None for attribute in attributes)
    }


def check(model):
    """Quantize and strip a model."""
    layers = layers_of(model)
    classes = {path: type(layer) for path, layer in layers.items()}
    attributes = {path: set(vars(layer)) for path, layer in layers.items()}
    with_kernel = having(layers, "kernel", "depthwise_kernel")
    planned = qf.plan(model, RECIPE)
    assert {path: type(layer) for path, layer in layers.items()} == classes
    report = qf.quantize(model, RECIPE)
    assert report.rows == planned.rows
    assert len(report.quantized) == len(with_kernel)
    assert {row.path for row in report.quantized} == with_kernel
    for index, row in enumerate(report.quantized):
        quantizers = layers[row.path].quantizers
        actual = {f"{slot}_quantizer": str(q.identifier) for slot, q in quantizers.items()}
        expected = {k: v for k, v in row.settings.items() if k.endswith("_quantizer")}
        assert actual == expected
        assert ("input_quantizer" in actual) == (index > 0)
        assert {"kernel_quantizer", "depthwise_quantizer"} & set(actual)
    # Whatever else learns is in the report too.
    scales = having(layers, "gamma", "beta")
    assert {row.path for row in report.skipped} == scales
    assert {row.reason for row in report.skipped} <= {"it has no kernel"}
    qf.strip(model)
    assert {path: type(layer) for path, layer in layers.items()} == classes
    assert {path: set(vars(layer)) for path, layer in layers.items()} == attributes


@pytest.mark.long
def test_mobilenet():
    model = build("MobileNetV2")
    check(model)
    assert len(qf.quantize(model, RECIPE).quantized) == 53


@pytest.mark.long  # JAX compiles every operation of it
def test_mobilenet_computes_with_other_weights_and_the_way_back_is_exact():
    model = build("MobileNetV2")
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    outputs = lambda: keras.ops.convert_to_numpy(model(x))  # noqa: E731
    before, weights = outputs(), model.get_weights()
    check(model)
    np.testing.assert_array_equal(outputs(), before)
    qf.quantize(model, RECIPE)
    assert np.abs(outputs() - before).max() > 1e-3
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def one_model_in_memory():
    """Collect a model when it is done with, and nothing before: that takes a quarter."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.mark.long
@pytest.mark.usefixtures("one_model_in_memory")
@pytest.mark.one_case_in(5)
@pytest.mark.parametrize("name", [family + size for family, size in FAMILIES.items()])
def test_every_family(name):
    check(build(name))


@pytest.mark.long
def test_every_application_is_of_a_family():
    assert len(APPLICATIONS) >= 38
    families = tuple(FAMILIES)
    assert not [name for name in APPLICATIONS if not name.startswith(families)]
