"""Every quantized layer against the Keras layer that it was."""

import copy
import inspect
import pickle
import threading
import warnings

import keras
import numpy as np
import pytest

import qframe as qf
from layer_cases import CASES
from qframe.errors import (
    ArgumentError,
    QFrameError,
    StarvedWeightsWarning,
    UnknownNameError,
)
from qframe.layers.adapters import EXPLICIT
from qframe.quantizers.differentiation import value_and_gradient
from qframe.testing import fresh_process
from state_gradients import state_gradients

BACKEND = keras.backend.backend()
# Most tests here look at one thing and leave the constraint out.
pytestmark = [
    pytest.mark.every_case,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def sign(x):
    return np.where(x >= 0, 1, -1).astype(x.dtype)


def output(layer, x, **arguments):
    return keras.ops.convert_to_numpy(layer(x, **arguments))


def latent(layer, prefix):
    weight = next(w for w in layer.adapter.weights if w.prefix == prefix)
    return getattr(layer, weight.attribute)


def test_there_is_a_case_for_every_adapter():
    assert {case.float_class for case in CASES} == set(EXPLICIT)


@each_case
def test_accepts_exactly_the_arguments_of_keras_plus_ours(case):
    theirs = list(inspect.signature(case.float_class).parameters.values())
    ours = list(inspect.signature(case.quantized_class).parameters.values())
    added = [p for p in ours if p.name not in {t.name for t in theirs}]
    assert [p for p in ours if p not in added] == theirs
    expected = ["input_quantizer", *(f"{p}_quantizer" for p in case.channel_axes)]
    if "use_bias" in case.arguments or hasattr(case.float_layer(), "bias"):
        expected.append("bias_quantizer")
    if any(p.name == "activation" for p in theirs):
        expected.append("preactivation_quantizer")
    expected.append("output_quantizer")
    if "Conv" in case.name and "Transpose" not in case.name:
        expected.append("pad_values")
    assert [p.name for p in added] == expected
    assert all(p.kind is p.KEYWORD_ONLY for p in added)
    assert inspect.signature(case.quantized_class.__init__).parameters.keys() == {
        "self",
        *(p.name for p in ours),
    }


@each_case
def test_without_quantizers_it_is_the_keras_layer(case):
    plain, quantized = case.float_layer(), case.quantized_layer()
    quantized.set_weights(plain.get_weights())
    x = case.inputs()
    np.testing.assert_array_equal(output(quantized, x), output(plain, x))
    assert isinstance(quantized, case.float_class)
    assert type(quantized).__name__ == case.name
    assert type(quantized).__qualname__ == f"Quant{case.name}"
    assert quantized.name.startswith("quant_")


@each_case
def test_weight_files_interchange_with_keras(case, tmp_path):
    def model(layer):
        dtype = "int32" if case.integer_input else None
        return keras.Sequential([keras.Input(case.input_shape, dtype=dtype), layer])

    slots = {f"{prefix}_quantizer": "ste_sign" for prefix in case.channel_axes}
    plain = model(case.float_class(**case.arguments))
    quantized = model(case.quantized_class(**case.arguments, **slots))
    plain.save_weights(tmp_path / "plain.weights.h5")
    quantized.load_weights(tmp_path / "plain.weights.h5")
    for a, b in zip(plain.get_weights(), quantized.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    quantized.set_weights([w + 1 for w in quantized.get_weights()])
    quantized.save_weights(tmp_path / "quantized.weights.h5")
    plain.load_weights(tmp_path / "quantized.weights.h5")
    for a, b in zip(plain.get_weights(), quantized.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@each_case
def test_computes_with_quantized_weights_and_inputs(case):
    slots = {f"{prefix}_quantizer": "ste_sign" for prefix in case.channel_axes}
    if not case.integer_input:
        slots["input_quantizer"] = "ste_sign"
    quantized, plain = case.quantized_layer(**slots), case.float_layer()
    weights = quantized.get_weights()
    assert len({abs(v) for v in weights[0].ravel()}) > 2
    # The bias, where there is one, is last and has no quantizer here.
    count = len(case.channel_axes)
    plain.set_weights([*map(sign, weights[:count]), *weights[count:]])
    x = case.inputs()
    expected = output(plain, x if case.integer_input else sign(x))
    np.testing.assert_allclose(output(quantized, x), expected, rtol=1e-5, atol=1e-6)
    for before, after in zip(weights, quantized.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@each_case
def test_the_scale_follows_the_output_channels(case):
    slots = {f"{prefix}_quantizer": "magnitude_aware_sign" for prefix in case.channel_axes}
    quantized, plain = case.quantized_layer(**slots), case.float_layer()
    weights = quantized.get_weights()
    scaled = []
    for w, axes in zip(weights, case.channel_axes.values(), strict=False):
        others = tuple(set(range(w.ndim)) - {a % w.ndim for a in axes})
        scaled.append(np.abs(w).mean(axis=others, keepdims=True) * sign(w))
    plain.set_weights([*scaled, *weights[len(scaled) :]])
    x = case.inputs()
    expected = output(plain, x)
    np.testing.assert_allclose(output(quantized, x), expected, rtol=1e-4, atol=1e-5)


@each_case
def test_the_gradient_reaches_the_latent_weight(case):
    prefix = next(iter(case.channel_axes))
    quantized = case.quantized_layer(**{f"{prefix}_quantizer": "ste_sign"})
    plain = case.float_layer()
    rng = np.random.default_rng(0)
    weights = [
        rng.uniform(-2, 2, w.shape).astype("float32") for w in quantized.get_weights()
    ]
    quantized.set_weights(weights)
    plain.set_weights([sign(weights[0]), *weights[1:]])
    x = case.inputs()
    inside = np.abs(weights[0]) <= 1
    assert set(inside.ravel()) == {False, True}
    upstream = rng.normal(size=output(plain, x).shape).astype("float32")
    name = latent(quantized, prefix).name
    actual, expected = (
        state_gradients(layer, x, upstream)[name] for layer in (quantized, plain)
    )
    np.testing.assert_allclose(actual, expected * inside, rtol=1e-4, atol=1e-5)


@each_case
def test_the_gradient_reaches_the_input(case):
    if case.integer_input:
        return  # an embedding has no gradient for its tokens
    quantized, plain = case.quantized_layer(input_quantizer="approx_sign"), None
    plain = case.float_layer()
    plain.set_weights(quantized.get_weights())
    x = case.inputs()
    upstream = np.ones_like(output(plain, x))
    _, outer = value_and_gradient(plain, sign(x), upstream)
    _, gradient = value_and_gradient(quantized, x, upstream)
    expected = outer * np.maximum(2 - 2 * np.abs(x), 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@each_case
def test_outside_of_a_call_the_latent_variable_is_seen(case):
    for prefix in case.channel_axes:
        layer = case.quantized_layer(**{f"{prefix}_quantizer": "ste_sign"})
        layer(case.inputs())
        assert hasattr(latent(layer, prefix), "assign")
        assert any(latent(layer, prefix) is v for v in layer.trainable_variables)


@each_case
def test_config_round_trip(case):
    slots = {f"{prefix}_quantizer": "swish_sign(beta=2.0)" for prefix in case.channel_axes}
    constraints = {f"{prefix}_constraint": "weight_clip" for prefix in case.channel_axes}
    layer = case.quantized_layer(
        **slots, **constraints, output_quantizer=qf.quantizers.SteSign(1.5)
    )
    config = layer.get_config()
    for key in slots:
        assert config[key] == "binary:swish_sign(beta=2.0)"
    for key in constraints:
        assert config[key] == "binary:weight_clip(clip_value=1.0)"
    assert config["output_quantizer"] == "binary:ste_sign(clip_value=1.5)"
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert {s: repr(q) for s, q in again.quantizers.items()} == {
        s: repr(q) for s, q in layer.quantizers.items()
    }


@each_case
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_copies_compute_the_same(case, copied):
    prefix = next(iter(case.channel_axes))
    layer = case.quantized_layer(**{f"{prefix}_quantizer": "ste_sign"})
    x = case.inputs()
    again = copied(layer)
    assert type(again) is type(layer)
    np.testing.assert_array_equal(output(again, x), output(layer, x))


def everything():
    """A model with a layer of each kind, in which every slot is used somewhere."""
    inputs, outputs = [], []
    for case in CASES:
        dtype = "int32" if case.integer_input else None
        inputs.append(keras.Input(case.input_shape, dtype=dtype, name=f"x{case.name}"))
        slots = {f"{p}_quantizer": "ste_sign" for p in case.channel_axes}
        constraints = {f"{p}_constraint": "weight_clip" for p in case.channel_axes}
        if not case.integer_input:
            slots["input_quantizer"] = "approx_sign"
        layer = case.quantized_class(**case.arguments, **slots, **constraints)
        outputs.append(keras.layers.Flatten()(layer(inputs[-1])))
    return keras.Model(inputs, outputs)


def test_a_saved_model_loads_in_a_process_that_imported_only_qframe(tmp_path):
    model = everything()
    x = [case.inputs(seed) for seed, case in enumerate(CASES)]
    model.save(tmp_path / "model.keras")
    actual = fresh_process.predict(tmp_path / "model.keras", x)
    expected = model.predict(x, verbose=0)
    assert len(actual) == len(CASES)
    for there, here in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(there, here)


def test_clone_model():
    model = everything()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = [case.inputs() for case in CASES]
    for a, b in zip(clone.predict(x, verbose=0), model.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_mixed_precision_quantizes_the_float32_weight(policy):
    layer = qf.layers.QuantDense(
        2, dtype=policy, use_bias=False, kernel_quantizer="ste_sign(clip_value=None)"
    )
    layer.build((None, 2))
    if policy != "float16":
        # These underflow to zero in float16, where their signs would be lost.
        layer.set_weights([np.array([[1e-12, -1e-12], [1.0, -1.0]], "float32")])
    else:
        layer.set_weights([np.array([[0.5, -0.5], [1.0, -1.0]], "float16")])
    y = layer(np.array([[1.0, 2.0]], "float32"))
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(keras.ops.cast(y, "float32")), [[3, -3]]
    )


@pytest.mark.parametrize(
    ("policy", "jit"),
    [
        # JAX computes one operation after another otherwise, which takes long.
        ("float32", BACKEND == "jax"),
        ("mixed_float16", BACKEND == "jax"),
        pytest.param("float32", True, marks=pytest.mark.long),
        pytest.param("mixed_float16", True, marks=pytest.mark.long),
        pytest.param("mixed_bfloat16", False, marks=pytest.mark.long),
    ],
)
def test_a_model_trains(policy, jit):
    keras.config.set_dtype_policy(policy)
    binary = {
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "input_quantizer": "ste_sign",
    }
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            qf.layers.QuantConv2D(8, 3, **{**binary, "input_quantizer": None}),
            keras.layers.BatchNormalization(),
            qf.layers.QuantSeparableConv2D(
                8,
                3,
                input_quantizer="approx_sign",
                depthwise_quantizer="ste_sign",
                pointwise_quantizer="magnitude_aware_sign",
                depthwise_constraint="weight_clip",
                pointwise_constraint="weight_clip",
            ),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            qf.layers.QuantDense(1, **binary),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("sigmoid", dtype="float32"),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 6, 6, 2)).astype("float32")
    y = (x[:, 2:4, 2:4, 0].sum(axis=(1, 2)) > 0).astype("float32")
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", jit_compile=jit)
    before = [np.array(w) for w in model.get_weights()]
    losses = model.fit(x, y, epochs=6, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    for layer in model.layers:
        if isinstance(layer, qf.layers.Quantized):
            for prefix in set(layer.quantizers) - {"input"}:
                assert np.abs(latent(layer, prefix).numpy()).max() <= 1
    changed = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(changed)


def test_threads_do_not_see_each_others_calls():
    within, looked = threading.Event(), threading.Event()
    seen = []

    def wait_for_the_other_thread(kernel):
        within.set()
        assert looked.wait(60)
        return -kernel

    layer = qf.layers.QuantDense(2, kernel_quantizer=wait_for_the_other_thread)
    looked.set()
    layer.build((None, 2))
    looked.clear()
    within.clear()

    def look():
        assert within.wait(60)
        seen.append(keras.ops.convert_to_numpy(layer.kernel))
        looked.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    x = np.eye(2, dtype="float32")
    y = output(layer, x)
    watcher.join()
    kernel, bias = layer.get_weights()
    np.testing.assert_array_equal(seen, [kernel])
    np.testing.assert_array_equal(y, bias - kernel)


# Quantizers of other kinds.


def test_any_callable_and_any_keras_layer_is_a_quantizer():
    layer = qf.layers.QuantDense(
        2, input_quantizer=keras.layers.ReLU(), kernel_quantizer=keras.ops.tanh
    )
    layer.build((None, 3))
    x = np.array([[-1.0, 2.0, 3.0]], "float32")
    kernel, _ = layer.get_weights()
    np.testing.assert_allclose(
        output(layer, x), np.maximum(x, 0) @ np.tanh(kernel), rtol=1e-5
    )


@keras.saving.register_keras_serializable("tests")
class LearnedScale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.scale


def test_a_layer_with_state_learns_and_is_saved_with_its_owner(tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), qf.layers.QuantDense(2, kernel_quantizer=LearnedScale())]
    )
    model.compile("sgd", "mse")
    assert len(model.trainable_variables) == 3
    x = np.ones((4, 3), "float32")
    model.fit(x, np.ones((4, 2)), verbose=0)
    scale = model.layers[0].kernel_quantizer.scale.numpy()
    assert (scale != 1).any()
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.layers[0].kernel_quantizer.scale.numpy(), scale)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_quantizers_as_activations(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            qf.layers.QuantDense(4, activation="ste_sign"),
            keras.layers.Activation(qf.quantizers.get("ste_heaviside")),
            qf.quantizers.SteSign(),
            keras.layers.Dense(2, kernel_constraint=qf.constraints.WeightClip(0.5)),
        ]
    )
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.layers[-1].kernel_constraint.clip_value == 0.5


def test_bias_and_output_quantizers():
    layer = qf.layers.QuantDense(
        3, bias_quantizer="magnitude_aware_sign", output_quantizer="ste_heaviside"
    )
    layer.build((None, 2))
    kernel, bias = np.ones((2, 3), "float32"), np.array([-0.5, 1.0, -1.5], "float32")
    layer.set_weights([kernel, bias])
    x = np.array([[0.4, 0.4]], "float32")
    # One scale for the whole bias: mean(0.5, 1, 1.5) = 1.
    np.testing.assert_array_equal(output(layer, x), (x @ kernel + [-1, 1, -1] > 0))


def test_no_bias_leaves_its_slot_idle():
    layer = qf.layers.QuantDense(3, use_bias=False, bias_quantizer="ste_sign")
    assert output(layer, np.ones((1, 2), "float32")).shape == (1, 3)


def test_the_input_may_be_given_by_keyword():
    layer = qf.layers.QuantDense(1, use_bias=False, input_quantizer="ste_sign")
    layer.build((None, 2))
    x = np.array([[0.1, 5.0]], "float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(inputs=x)), output(layer, x)
    )


# Misuse.


def test_starved_weights_are_warned_of_once():
    def make_and_copy():
        layer = qf.layers.QuantDense(2, kernel_quantizer="ste_sign")
        type(layer).from_config(layer.get_config())

    with pytest.warns(StarvedWeightsWarning, match="kernel_constraint='weight_") as seen:
        make_and_copy()
    assert len(seen) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"},
        {"kernel_quantizer": "ste_sign(clip_value=None)"},
        {"input_quantizer": "ste_sign"},
        {"kernel_quantizer": keras.ops.tanh},
    ],
)
def test_no_warning_where_no_weight_starves(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qf.layers.QuantDense(2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_quantizer": "ste_sing"}, UnknownNameError, "Did you mean 'ste_sign'"),
        ({"kernel_quantizer": 3}, ArgumentError, "found 3 of type int"),
        ({"kernel_quantizer": "ste_sign(a=1)"}, ArgumentError, "no argument 'a'"),
        ({"kernel_constraint": "weight_clp"}, UnknownNameError, "'weight_clip'"),
        ({"activation": "rellu"}, ValueError, "rellu"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        qf.layers.QuantDense(2, **arguments)


@pytest.mark.parametrize(
    ("quantizer", "message"),
    [
        (lambda x: keras.ops.sum(x), "changed the shape"),
        (lambda x: keras.ops.cast(x, "int32"), "changed the dtype"),
        (lambda x: None, "changed the shape"),
    ],
)
def test_a_quantizer_that_changes_shape_or_dtype(quantizer, message):
    layer = qf.layers.QuantDense(2, kernel_quantizer=quantizer)
    with pytest.raises(QFrameError, match=message):
        layer(np.ones((1, 2), "float32"))


def test_a_model_that_needs_a_missing_plugin_names_the_distribution():
    config = qf.layers.QuantDense(2).get_config()
    config["kernel_quantizer"] = "acme:soft"
    config["qframe_requires"] = {"acme": "acme-quant"}
    with pytest.raises(UnknownNameError, match="pip install acme-quant"):
        qf.layers.QuantDense.from_config(config)


def test_subclassing():
    class Named(qf.layers.QuantDense):
        def __init__(self, **kwargs):
            super().__init__(3, kernel_quantizer="ste_sign(clip_value=None)", **kwargs)

        def call(self, inputs):
            return super().call(inputs) + 1

    layer = Named(use_bias=False)
    x = np.ones((1, 2), "float32")
    y = output(layer, x)
    np.testing.assert_array_equal(y, x @ sign(layer.get_weights()[0]) + 1)
    assert layer.name == "named"


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile is PyTorch's")
def test_torch_compile_traces_a_quantized_layer():
    import torch

    sign = "ste_sign(clip_value=None)"
    settings = {
        "input_quantizer": sign,
        "kernel_quantizer": sign,
        "output_quantizer": "lsq",
    }
    layer = qf.layers.QuantDense(2, **settings)
    x = torch.arange(-3.0, 3.0).reshape(2, 3)
    expected = layer(x)
    # Tracing alone: the code generator takes seconds and is not ours.
    traced = torch.compile(layer, backend="eager")
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (traced(x), expected)))
