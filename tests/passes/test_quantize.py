"""Selectors, reports, replacement, and what is refused before anything changes."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, NotBuiltError, QFrameError, UnknownNameError
from topology_models import Block

SIGN = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
BNN = {**SIGN, "input_quantizer": "ste_sign"}


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, name="stem"),
            layers.BatchNormalization(name="norm"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Conv2D(4, 3, name="body"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )


def quantized(report):
    return [row.path for row in report.quantized]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (SIGN, ["stem", "body", "head"]),
        ({"weight_quantizer": "ste_sign"}, ["stem", "depthwise", "body", "head"]),
        ({"depthwise_quantizer": "ste_sign"}, ["depthwise"]),
        ([(layers.Dense, SIGN)], ["head"]),
        ([("Conv2D", SIGN)], ["stem", "body"]),
        ([("re:^(stem|head)$", SIGN)], ["stem", "head"]),
        ([(qf.first, SIGN)], ["stem"]),
        ([(qf.last, SIGN)], ["head"]),
        ([(lambda layer: layer.name == "body", SIGN)], ["body"]),
        ([(qf.first, None), (qf.last, None), ("Conv2D", SIGN)], ["body"]),
        ([(qf.first, SIGN), (layers.Layer, BNN)], ["stem", "body", "head"]),
    ],
)
def test_selectors(rules, expected):
    model = network()
    assert quantized(qf.plan(model, rules)) == expected
    assert quantized(qf.quantize(model, rules)) == expected


def test_the_report_says_what_was_skipped_and_why():
    report = qf.quantize(network(), [(qf.first, None), (layers.Conv2D, SIGN)])
    reasons = {row.path: row.reason for row in report.skipped}
    assert reasons == {
        "stem": "a rule leaves it as it is",
        "norm": "it has no kernel",
        "depthwise": "no rule selects it",
        "head": "no rule selects it",
    }
    assert "kernel_quantizer=binary:ste_sign" in str(report)
    assert "<td" in report._repr_html_()
    assert report.to_dict()["rows"][0]["path"] == "stem"


def test_a_key_that_one_layer_has_not_skips_it_and_says_so():
    report = qf.plan(network(), SIGN)
    (row,) = [row for row in report.skipped if row.path == "depthwise"]
    assert row.reason == (
        "it has no kernel_quantizer; it takes depthwise_quantizer, bias_quantizer"
    )


def test_quantizing_again_with_the_same_rules_changes_nothing():
    def ids_in(model):
        slots = [getattr(layer, "quantizers", {}) for layer in model.layers]
        return [id(quantizer) for filled in slots for quantizer in filled.values()]

    model = network()
    qf.quantize(model, BNN)
    before = ids_in(model)
    qf.quantize(model, BNN)
    assert len(before) == 6
    assert ids_in(model) == before


def test_other_rules_replace_the_slots():
    model = network()
    qf.quantize(model, BNN)
    qf.quantize(model, {"kernel_quantizer": "approx_sign"})
    assert repr(model.get_layer("head").quantizers) == "{'kernel': binary:approx_sign}"


def test_live_access():
    model = network()
    qf.quantize(model, BNN)
    head = model.get_layer("head")
    head.quantizers["kernel"] = "swish_sign"
    assert repr(head.quantizers["kernel"]) == "binary:swish_sign"
    del head.quantizers["input"]
    assert set(head.quantizers) == {"kernel"}
    with pytest.raises(KeyError):
        head.quantizers["input"]
    with pytest.raises(ArgumentError, match="no slot 'depthwise'; it has input, kernel"):
        head.quantizers["depthwise"] = "ste_sign"


def test_predictions_are_traced_again():
    model = network()
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype("float32")
    before = model.predict(x, verbose=0)
    qf.quantize(model, SIGN)
    assert np.abs(model.predict(x, verbose=0) - before).max() > 1e-3
    qf.strip(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_strip_restores_constraints():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, kernel_constraint="non_neg", name="d")]
    )
    qf.quantize(model, SIGN)
    dense = model.get_layer("d")
    assert type(dense.kernel.constraint).__name__ == "WeightClip"
    qf.strip(model)
    assert type(dense) is layers.Dense
    assert type(dense.kernel.constraint) is keras.constraints.NonNeg
    assert dense.kernel_constraint is dense.kernel.constraint


class Learned(qf.quantizers.Quantizer):
    """A scale of each layer's own."""

    traits = qf.quantizers.Traits(trainable=True)

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


def test_state_is_not_shared_between_layers():
    model = network()
    qf.quantize(model, {"kernel_quantizer": Learned()})
    scales = [model.get_layer(n).kernel_quantizer.scale for n in ("stem", "head")]
    assert [tuple(scale.shape) for scale in scales] == [(3, 3, 2, 4), (16, 2)]
    assert all(any(s is v for v in model.trainable_variables) for s in scales)


@keras.saving.register_keras_serializable("tests")
class Unknown(layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(name="m", shape=(shape[-1], 2))

    def call(self, x):
        return keras.ops.matmul(x, self.matrix)


def test_a_layer_without_adapter_is_reported_with_the_line_to_write():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Unknown(name="u")])
    report = qf.plan(model, SIGN)
    assert "qframe.register_layer(Unknown, kernel=" in report.skipped[0].reason
    with pytest.raises(ArgumentError, match=r"register_layer\(Unknown"):
        qf.plan(model, SIGN, strict=True)


BAD = {
    "typo": ([("re:heda", SIGN)], ArgumentError, "matches no layer"),
    "class typo": ([("Densee", SIGN)], ArgumentError, "Did you mean 'Dense'"),
    "shadowed": ([(layers.Layer, SIGN), ("Dense", SIGN)], ArgumentError, "earlier rule"),
    "unknown quantizer": (
        {"kernel_quantizer": "ste_sing"},
        UnknownNameError,
        "Did you mean",
    ),
    "no such word": ({"kernel": "ste_sign"}, ArgumentError, "found 'kernel'"),
    "no such slot": (
        {"kernle_quantizer": "ste_sign", **SIGN},
        ArgumentError,
        "Did you mean 'kernel_quantizer'",
    ),
    "shape": (
        {"kernel_quantizer": lambda w: keras.ops.sum(w)},
        QFrameError,
        "changed the shape",
    ),
    "dtype": (
        {"kernel_quantizer": lambda w: keras.ops.cast(w, "int32")},
        QFrameError,
        "changed the dtype",
    ),
    "regex": ([("re:(", SIGN)], ArgumentError, "is not a regex"),
    "selector": ([(3, SIGN)], ArgumentError, "a selector is"),
    "rules": (3, ArgumentError, "rules are a dict"),
    "name": ("ste_sign", UnknownNameError, "is not a recipe but a quantizer"),
    "no settings": ([(layers.Dense, {})], ArgumentError, "write None"),
    "path": ([("head/.*", SIGN)], ArgumentError, "begins with re:"),
    "empty": ([], ArgumentError, "rules are a dict"),
    "settings": ([(layers.Dense, "ste_sign")], ArgumentError, "rules are a dict"),
}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"bits": 8}, "there is no argument 'bits'"),
        ({"rules": SIGN, "mode": "qat"}, "there is no argument 'mode'"),
        ({}, "missing a required argument: 'rules'"),
    ],
)
@pytest.mark.parametrize("function", [qf.plan, qf.quantize])
def test_calls_with_other_arguments_are_answered_with_a_recipe(function, arguments, reason):
    name = function.__name__
    text = rf"{name}\(model, rules, strict\): {reason}.*qframe\.{name}\(model, 'int8'\)"
    with pytest.raises(TypeError, match=text) as caught:
        function(network(), **arguments)
    assert isinstance(caught.value, ArgumentError)


@pytest.mark.parametrize("name", BAD)
def test_bad_rules_change_nothing(name):
    rules, error, message = BAD[name]
    model = network()
    before = [type(layer) for layer in model.layers]
    for function in (qf.plan, qf.quantize):
        with pytest.raises(error, match=message):
            function(model, rules)
    assert [type(layer) for layer in model.layers] == before
    assert not any("kernel_quantizer" in vars(layer) for layer in model.layers)


def test_other_objects_and_models_that_are_not_built_are_refused():
    with pytest.raises(ArgumentError, match="takes a Keras model"):
        qf.quantize("model.keras", SIGN)
    with pytest.raises(NotBuiltError, match="not built"):
        qf.quantize(keras.Sequential([layers.Dense(2)]), SIGN)


def test_state_that_learns_needs_a_new_optimizer():
    model = network()
    model.compile("adam", "mse", **WITHOUT_XLA)
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ArgumentError, match=r"the optimizer of .* was built"):
        qf.quantize(model, {"kernel_quantizer": Learned()})
    assert type(model.get_layer("head")) is layers.Dense


def test_failed_pass_is_rolled_back():
    class Explosive(qf.quantizers.Quantizer):
        def build(self, shape):
            if tuple(shape) == (None, 16):
                raise RuntimeError("unforeseen")
            super().build(shape)

    model = network()
    qf.quantize(model, [("re:body", {"kernel_quantizer": "ste_sign"})])
    before = [type(layer) for layer in model.layers]
    with pytest.raises(QFrameError, match="unforeseen"):
        qf.quantize(
            model, {"input_quantizer": Explosive(), "kernel_constraint": "weight_clip"}
        )
    for name in ("stem", "body", "head"):
        assert model.get_layer(name).kernel_constraint is None
        assert model.get_layer(name).kernel.constraint is None
    assert [type(layer) for layer in model.layers] == before
    assert repr(model.get_layer("body").quantizers["kernel"]).startswith("binary:ste_sign")
    assert "input_quantizer" not in vars(model.get_layer("stem"))


def test_a_nested_layer_of_layers_has_a_path():
    x = keras.Input((4,))
    model = keras.Model(x, Block(3, name="block")(x))
    (row,) = qf.quantize(model, SIGN).quantized
    assert row.path.startswith("block/dense")
