"""Recipes for full-integer inference: the edges, the biases, and what stays in float."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from integer_sums import integer_sums
from qframe.deployment.graph.checks import require_grids
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.fusing import FLOAT_BIAS_RULES, fuse
from qframe.deployment.graph.reference import run
from qframe.deployment.lowering import ExportTarget, lower
from qframe.errors import ArgumentError, ExportError, QFrameError
from qframe.layers.slots import filled_slots
from qframe.layers.sums import sums_of
from qframe.layers.tree import iter_slots

pytestmark = pytest.mark.once_per_backend
TARGET = ExportTarget("mine", sum_bits=64)
RECIPES = "int8", "w4a8", "int16x8"


def array(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def as_trained(model, seed=0):
    """Weights of no special kind, with scales of both signs in batch normalization."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.3, size))
            layer.moving_variance.assign(rng.uniform(0.2, 1.5, size))
            if layer.scale:
                layer.gamma.assign(rng.choice([-1.2, 0.4, 0.9, 1.3], size))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.5, size))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.5, layer.bias.shape))
    return model


def data(model, count=8):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, *model.input_shape[1:])).astype("float32")


def quantized(model, recipe="int8"):
    """Quantize and calibrate; returns the data and the notes."""
    report = qf.quantize(as_trained(model), recipe)
    x = data(model)
    qf.calibrate(model, x, verbose=0)
    return x, [note for note in report.notes if "no range is set" not in note]


def places(model):
    """The filled slots of activations and biases, by layer."""
    filled = {}
    for slot in iter_slots(model):
        if slot.name not in ("kernel", "depthwise"):
            filled.setdefault(slot.path, []).append(slot.name)
    return filled


def off_grid(model):
    """How far biases in steps are from integers before they are rounded, at most."""
    worst = 0.0
    for node in fuse(lower(model, TARGET), FLOAT_BIAS_RULES).nodes:
        fused = node.operation
        if isinstance(fused, Fused) and fused.is_product and fused.bias is not None:
            steps = fused.bias / fused.scale
            worst = max(worst, np.abs(steps - np.rint(steps)).max())
    return worst


# Where quantizers go.


def branches():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.Activation("relu6", name="relu6")(y)
    y = layers.Dropout(0.5, name="dropout")(y)
    y = layers.Conv2D(4, 1, name="pointwise")(y)
    x = layers.Add(name="add")([x, y])
    z = layers.Conv2D(4, 1, activation="relu", name="side")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    z = layers.AveragePooling2D(2, name="mean")(z)
    w = layers.Conv2D(2, 2, 2, name="joined")(layers.ZeroPadding2D(0, name="pad")(x))
    w = layers.UpSampling2D(name="up")(w)
    x = layers.Concatenate(name="join")([x, z, w])
    x = layers.Activation("hard_sigmoid", name="gate")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(6, name="hidden")(x)
    x = layers.LeakyReLU(name="leaky")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))


def test_quantizers_are_behind_the_last_layer_of_each_step():
    model = branches()
    qf.quantize(model, "int8")
    assert places(model) == {
        "conv": ["input"],
        "norm": ["beta"],
        "relu": ["output"],
        "depthwise": ["bias"],
        "relu6": ["output"],
        "pointwise": ["bias", "output"],
        "add": ["output"],
        "side": ["bias", "output"],
        "joined": ["bias"],
        "join": ["output"],
        "gate": ["output"],
        "hidden": ["bias", "output"],
        "leaky": ["output"],
        "head": ["bias", "preactivation", "output"],
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_bits_of_recipes(recipe):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    _, notes = quantized(model, recipe)
    dense = model.layers[0]
    weights, activations = {"int8": (8, 8), "w4a8": (4, 8), "int16x8": (8, 16)}[recipe]
    assert (dense.kernel_quantizer.bits, dense.input_quantizer.bits) == (
        weights,
        activations,
    )
    assert dense.output_quantizer.symmetric is (activations == 16)
    assert (dense.kernel_quantizer.low, notes) == (-(2 ** (weights - 1)) + 1, [])
    require_grids(fuse(lower(model, TARGET)), "mine")
    assert off_grid(model) < 0.25  # in float32, of up to 2^20 steps
    again = qf.Recipe.from_toml(qf.recipes.get(recipe).to_toml())
    assert again == qf.recipes.get(recipe)


def test_gather_is_an_argument():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    qf.quantize(model, "int8(gather='widest')")
    assert model.layers[0].output_quantizer.gather == "widest"
    with pytest.raises(ArgumentError, match="gather"):
        qf.quantize(model, "int8(gather='no')")


def test_rules_without_edges_select_layers_with_weights_alone():
    model = branches()
    seen = []
    rules = [
        (qf.first, {"kernel_quantizer": "ste_sign"}),
        (lambda layer: bool(seen.append(layer)), None),
        (None, {"input_quantizer": "integer(gather='widest')"}),
    ]
    with pytest.raises(ArgumentError, match="matches no layer"):
        qf.quantize(model, rules)
    report = qf.quantize(model, [rules[0], rules[2]])
    assert all(hasattr(layer, "kernel") for layer in seen)
    assert [row.path for row in report.quantized] == [
        *("conv", "depthwise", "pointwise", "side", "joined", "hidden", "head")
    ]
    assert places(model)["depthwise"] == ["input"]


def test_a_rule_leaves_steps_and_their_edges_in_float():
    model = branches()
    recipe = qf.recipes.get("int8").rules[0].settings
    in_float = [("re:^(conv|add)$", None), (qf.last, None)]
    report = qf.quantize(model, [*in_float, (None, recipe)])
    filled = places(model)
    assert not {"conv", "norm", "relu", "add", "head"} & {*filled}
    assert "bias" not in filled.get("depthwise", ())  # its input is in float
    assert "the bias of 'depthwise' stays in float: its input is not quantized." in (
        report.notes
    )


def test_settings_of_a_rule_precede_its_edges():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    edges = {"edge_quantizer": "integer(gather='widest')"}
    qf.quantize(model, {"output_quantizer": "ste_sign", **edges})
    assert repr(model.layers[0].output_quantizer).startswith("binary:ste_sign")
    assert model.layers[0].input_quantizer.gather == "widest"


# What stays in float is said.


def test_operators_have_no_slots_and_their_readers_have():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="a")(inputs)
    y = layers.Dense(4, name="b")(x)
    total = x + y
    model = keras.Model(inputs, [layers.Dense(2, name="c")(total), total * y])
    _, notes = quantized(model)
    assert places(model)["c"] == ["input", "bias", "output"]
    assert len(notes) == 2  # from one operator to the other, and from that one
    assert all("write that operator as keras.layers.Add()" in note for note in notes)
    with pytest.raises(ExportError):
        require_grids(fuse(lower(model, TARGET)), "mine")


def test_merges_quantize_inputs_and_operators_apart():
    inputs = keras.Input((4,))
    gate = layers.ReLU(6.0)(layers.Dense(4, name="dense")(inputs) + 3.0) * (1 / 6)
    model = keras.Model(inputs, layers.Multiply(name="times")([inputs, gate]))
    x, notes = quantized(model)
    assert (places(model)["times"], notes) == (["input_1", "input_2", "output"], [])
    require_grids(fuse(lower(model, TARGET)), "mine")
    assert off_grid(model) < 0.01  # with the 3 that the operator adds
    assert model.get_layer("dense").bias_quantizer.offset == 3.0
    expected = model.predict(x, verbose=0)
    loaded = keras.models.clone_model(model)
    loaded.set_weights(model.get_weights())
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)


def test_an_identity_gives_a_slot_to_an_input():
    inputs = keras.Input((4,))
    bare = keras.Model(inputs, layers.Dense(2)(inputs * inputs))
    note = next(n for n in qf.plan(bare, "int8").notes if "float" in n)
    assert "put keras.layers.Identity() behind the input" in note
    inputs = keras.Input((4,))
    x = layers.Identity(name="entry")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Multiply()([x, x])))
    assert quantized(model)[1] == []
    assert places(model)["entry"] == ["input"]
    require_grids(fuse(lower(model, TARGET)), "mine")


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        (layers.BatchNormalization(center=False, name="norm"), "has center=False"),
        (layers.Rescaling([2.0, 1.0], name="scale"), "by more than one number"),
    ],
    ids=["center", "vector"],
)
def test_biases_that_cannot_be_on_the_grid(behind, reason):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense"), behind])
    (note,) = quantized(model)[1]
    assert note.startswith("the bias of 'dense' stays in float: ")
    assert reason in note
    assert "bias" not in places(model)["dense"]


def test_code_has_no_edges():
    class Coded(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Coded()
    model(np.ones((1, 3), "float32"))
    with pytest.raises(ArgumentError, match="is code, in which they are not known"):
        qf.quantize(model, "int8")
    assert not any(True for _ in iter_slots(model))


def test_layers_within_code_have_biases_in_float():
    inputs = keras.Input((3, 4))
    x = layers.TimeDistributed(layers.Dense(2, name="inner"), name="outer")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    (note,) = [n for n in quantized(model)[1] if "bias" in n]
    assert "the call of the layer around it is code" in note
    assert places(model)["head"] == ["input", "bias", "output"]


# Biases.


def by_hand(quantizer, kernel):
    """The scales of an asymmetric range and of a kernel by its last axis."""
    ends = quantizer.gathered.low, quantizer.gathered.high
    low, high = (float(array(end)) for end in ends)
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(0)
    return (max(high, 0) - min(low, 0)) / 255 * largest / 127


def test_a_bias_is_a_multiple_of_the_scales_of_input_and_kernel():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    quantized(model)
    first, second = model.layers
    for layer, source in ((first, first.input_quantizer), (second, first.output_quantizer)):
        bias = array(layer.bias)
        step = by_hand(source, array(layer.kernel))
        found = array(layer.quantized_weights()["bias"])
        np.testing.assert_allclose(found, step * np.rint(bias / step), atol=1e-6)
        integers = qf.integers(model)[f"{layer.name}/bias"]
        np.testing.assert_array_equal(integers.values, np.rint(bias / step))
        assert integers.values.dtype == np.int32


def test_beta_puts_the_folded_bias_on_the_grid():
    steps = layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU()
    model = keras.Sequential([keras.Input((6, 6, 2)), *steps])
    quantized(model)
    conv, norm, _ = model.layers
    factor = array(norm.gamma) / np.sqrt(array(norm.moving_variance) + norm.epsilon)
    step = by_hand(conv.input_quantizer, array(conv.kernel)) * np.abs(factor)
    rest = (array(conv.bias) - array(norm.moving_mean)) * factor
    before, after = array(norm.beta), array(norm.quantized_weights()["beta"])
    np.testing.assert_allclose(
        after + rest, step * np.rint((before + rest) / step), atol=1e-6
    )
    assert 0 < np.abs(after - before).max() <= (step / 2 + 1e-6).max()


def test_biases_that_int32_cannot_hold_stay():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    quantized(model)
    dense = model.layers[0]
    kernel = array(dense.kernel)
    kernel[:, 0], kernel[:, 1] = 0, 1e-25
    dense.kernel.assign(kernel)
    bias, found = array(dense.bias), array(dense.quantized_weights()["bias"])
    assert (bias[:2] == found[:2]).all()
    assert np.isfinite(found).all()
    with pytest.raises(QFrameError, match="does not fit 32 bits"):
        qf.integers(model)
    require_grids(fuse(lower(model, TARGET)), "mine")


def test_a_bias_has_no_step_before_there_is_a_range():
    model = as_trained(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    qf.quantize(model, "int8")
    dense = model.layers[0]
    np.testing.assert_array_equal(
        array(dense.quantized_weights()["bias"]), array(dense.bias)
    )
    outside = qf.quantizers.get("integer_bias")
    assert float(outside(0.3)) == np.float32(0.3)
    with pytest.raises(QFrameError, match="has no step"):
        outside.integers([0.3])


def test_calls_that_read_different_grids():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    model = keras.Model(inputs, shared(layers.ReLU(name="relu")(shared(inputs))))
    assert quantized(model)[1] == []
    assert places(model)["shared"] == ["input", "bias", "output"]
    require_grids(fuse(lower(model, TARGET)), "mine")
    assert off_grid(model) < 0.01


def test_calls_that_read_different_grids_without_a_common_one():
    weights = {"kernel_quantizer": "integer", "bias_quantizer": "integer_bias"}
    shared = qf.layers.QuantDense(4, name="shared", **weights)
    inputs = keras.Input((4,))
    grids = [qf.quantizers.get("integer(gather='widest')")(inputs) for _ in range(2)]
    shared(grids[0])
    shared(grids[1])
    with pytest.raises(ArgumentError, match="read the grids of 2 quantizers"):
        shared(np.ones((1, 4), "float32"))
    shared.quantizers["input"] = "integer(gather='widest')"
    assert sums_of(shared, "bias") is not None


def test_a_bias_learns_through_its_grid():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.ReLU()])
    x, _ = quantized(model)
    before = array(model.layers[0].bias)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, np.ones((len(x), 2)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.abs(array(model.layers[0].bias) - before).max() > 1e-3
    assert off_grid(model) < 0.01


# Whole models.


def drawn(draw):
    """Small functional models with branches, shared layers and a model in the model."""
    x = inputs = keras.Input((6, 6, 3))
    shared = layers.Conv2D(3, 1, name="shared")
    inner_input = keras.Input((6, 6, 3))
    inner = layers.Conv2D(3, 3, padding="same", name="in_conv")(inner_input)
    inner = layers.BatchNormalization(name="in_norm")(inner)
    inner = keras.Model(inner_input, layers.ReLU(name="in_relu")(inner), name="inner")
    tensors = [layers.Conv2D(3, 3, padding="same", activation="relu", name="first")(x)]
    kinds = {
        "conv": lambda x: layers.Conv2D(3, 3, padding="same", use_bias=False)(x),
        "biased": lambda x: layers.Conv2D(3, 1, activation=draw(ACTIVATIONS))(x),
        "depthwise": lambda x: layers.DepthwiseConv2D(3, padding="same")(x),
        "norm": lambda x: layers.BatchNormalization()(x),
        "relu": lambda x: layers.ReLU(max_value=draw(st.sampled_from([None, 6.0])))(x),
        "other": lambda x: layers.Activation(draw(st.sampled_from(["sigmoid", "silu"])))(x),
        "max": lambda x: layers.MaxPooling2D(2, 1, padding="same")(x),
        "mean": lambda x: layers.AveragePooling2D(2, 1, padding="same")(x),
        "pad": lambda x: layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x)),
        "drop": lambda x: layers.Dropout(0.3)(x),
        "add": lambda x: layers.Add()([x, draw(st.sampled_from(tensors))]),
        "multiply": lambda x: layers.Multiply()([x, draw(st.sampled_from(tensors))]),
        "join": lambda x: layers.Conv2D(3, 1)(
            layers.Concatenate()([x, draw(st.sampled_from(tensors))])
        ),
        "shared": shared,
        "inner": inner,
        "operator": lambda x: x + draw(st.sampled_from(tensors)),
    }
    for kind in draw(st.lists(st.sampled_from([*kinds]), min_size=2, max_size=7)):
        tensors.append(kinds[kind](tensors[-1]))
    x = layers.GlobalAveragePooling2D()(tensors[-1])
    return keras.Model(inputs, layers.Dense(3, activation=draw(ACTIVATIONS))(x))


ACTIVATIONS = st.sampled_from([None, "relu", "softmax"])


def integers_of(graph, x):
    """The result of a graph on integers, with products in int64 and float64."""
    tensors = [x]
    for node in graph.nodes:
        inputs, fused = [tensors[i] for i in node.inputs], node.operation
        if not (isinstance(fused, Fused) and fused.is_product):
            tensors.append(run(fused, *inputs))
            continue
        y = (integer_sums(fused.operation, *inputs) + fused.bias) * fused.scale
        if fused.activation is not None:
            y = np.clip(y, 0, fused.activation.most)
        tensors.append(run(fused.quantize, y.astype(np.float32)))
    return tensors[graph.outputs[0]]


@given(choices=st.data(), recipe=st.sampled_from(["int8", "w4a8"]))
@settings(max_examples=8, deadline=None)
def test_drawn_models_are_integers_throughout(choices, recipe):
    model = as_trained(drawn(choices.draw))
    x, before = data(model), model.get_weights()
    in_float = array(model(x))
    quantized(model, recipe)
    graph = fuse(lower(model, TARGET))
    require_grids(graph, "mine")
    assert off_grid(model) < 0.1
    wanted = array(model(x))
    found = integers_of(graph, x)
    last = model.layers[-1].output_quantizer
    step = float(array(last.affine(np.zeros((1, 1), "float32"))[0]))
    # float32 may round a sum in Keras the other way, and each later step once more.
    steps = np.abs(found - wanted) / step
    assert np.mean(steps < 0.5) > 0.75
    assert steps.max() < 4
    qf.strip(model)
    assert all(map(np.array_equal, model.get_weights(), before))
    np.testing.assert_array_equal(array(model(x)), in_float)


def test_a_file_and_a_clone_compute_the_same(tmp_path):
    model = branches()
    x, _ = quantized(model)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = qf.load_model(tmp_path / "m.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for each in (loaded, clone):
        np.testing.assert_array_equal(each.predict(x, verbose=0), expected)
        assert places(each) == places(model)
        assert off_grid(each) < 0.01
    qf.strip(loaded)
    assert not any(filled_slots(layer) for layer in loaded.layers)
    assert [type(layer) for layer in loaded.layers] == [
        type(layer) for layer in branches().layers
    ]


def test_a_nested_model_finds_the_grid_outside():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="in"), layers.Dense(3)], name="inner"
    )
    inputs = keras.Input((4,))
    x = layers.Dense(4, activation="relu", name="before")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="after")(inner(x)))
    quantized(model)
    step = by_hand(
        model.get_layer("before").output_quantizer, array(inner.get_layer("in").kernel)
    )
    found = array(sums_of(inner.get_layer("in"), "bias").step)
    np.testing.assert_allclose(found, step, rtol=1e-5)
    assert off_grid(model) < 0.01


def test_readers_of_one_tensor_share_its_grid():
    inputs = keras.Input((4,))
    both = [layers.Dense(3)(inputs), layers.Dense(3)(inputs)]
    model = keras.Model(inputs, layers.Add()(both))
    quantized(model)
    graph = fuse(lower(model, TARGET))
    assert [n.operation.name for n in graph.nodes].count("quantize") == 1
    require_grids(graph, "mine")


def test_the_profile_counts_layers_without_weights():
    model = branches()
    quantized(model)
    profile = qf.models.profile(model)
    by_path = {layer.name: layer for layer in profile.layers}
    assert by_path["add"].macs == ()
    assert by_path["pointwise"].input_precision == 8


@pytest.mark.long
def test_a_mobile_network_is_integers_throughout():
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=5
    )
    _, notes = quantized(model)
    assert notes == []
    require_grids(fuse(lower(model, TARGET)), "mine")
    assert off_grid(model) < 0.25
