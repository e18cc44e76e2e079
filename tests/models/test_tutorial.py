"""The model of Larq's tutorial: its table, to the last digit."""

import json
import pathlib

import keras
import pytest

import qframe as qf

QUANTIZED = {
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "use_bias": False,
}
BINARY = {**QUANTIZED, "input_quantizer": "ste_sign"}

# name, input bits, output shape, 1-bit and 32-bit parameters, 1-bit and 32-bit MACs; by
# hand: a 3x3 kernel has 9 * inputs * filters weights and meets each output pixel once.
# Batch normalization without scale keeps a mean (that beta joins) and a variance.
LAYERS = [
    ("conv", None, (26, 26, 32), 288, 0, 0, 676 * 288),
    ("pool", None, (13, 13, 32), 0, 0, 0, 0),
    ("norm", None, (13, 13, 32), 0, 64, 0, 0),
    ("conv_1", 1, (11, 11, 64), 18432, 0, 121 * 18432, 0),
    ("pool_1", None, (5, 5, 64), 0, 0, 0, 0),
    ("norm_1", None, (5, 5, 64), 0, 128, 0, 0),
    ("conv_2", 1, (3, 3, 64), 36864, 0, 9 * 36864, 0),
    ("norm_2", None, (3, 3, 64), 0, 128, 0, 0),
    ("flatten", None, (576,), 0, 0, 0, 0),
    ("dense", 1, (64,), 36864, 0, 36864, 0),
    ("norm_3", None, (64,), 0, 128, 0, 0),
    ("dense_1", 1, (10,), 640, 0, 640, 0),
    ("norm_4", None, (10,), 0, 20, 0, 0),
    ("softmax", None, (10,), 0, 0, 0, 0),
]

PRINTED = pathlib.Path(__file__).with_name("tutorial.txt").read_text()


@pytest.fixture
def tutorial():
    conv, dense = qf.layers.QuantConv2D, qf.layers.QuantDense
    pool, norm = keras.layers.MaxPooling2D, keras.layers.BatchNormalization
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            conv(32, 3, name="conv", **QUANTIZED),
            pool(name="pool"),
            norm(scale=False, name="norm"),
            conv(64, 3, name="conv_1", **BINARY),
            pool(name="pool_1"),
            norm(scale=False, name="norm_1"),
            conv(64, 3, name="conv_2", **BINARY),
            norm(scale=False, name="norm_2"),
            keras.layers.Flatten(name="flatten"),
            dense(64, name="dense", **BINARY),
            norm(scale=False, name="norm_3"),
            dense(10, name="dense_1", **BINARY),
            norm(scale=False, name="norm_4"),
            keras.layers.Activation("softmax", name="softmax"),
        ],
        name="tutorial",
    )


def test_each_layer(tutorial):
    actual = [
        (
            layer.name,
            layer.input_precision,
            layer.output_shapes[0][1:],
            layer.parameter_count(1),
            layer.parameter_count(32),
            layer.mac_count(1),
            layer.mac_count(32),
        )
        for layer in qf.models.profile(tutorial).layers
    ]
    assert actual == LAYERS


def test_totals(tutorial):
    profile = qf.models.profile(tutorial)
    assert profile.parameter_count() == 93556
    assert profile.parameter_count(1) == profile.parameter_count(trainable=True) == 93088
    assert profile.parameter_count(32) == profile.parameter_count(trainable=False) == 468
    assert profile.memory == 93088 + 32 * 468
    assert profile.float_memory == 32 * 93556
    assert profile.mac_count() == 2794240
    assert profile.mac_count(1) == 2599552
    assert profile.mac_count(32) == 194688


def test_printed(tutorial, capsys):
    qf.models.summary(tutorial)
    assert capsys.readouterr().out == PRINTED


def test_print_fn_gets_one_text_a_table(tutorial):
    printed = []
    profile = qf.models.summary(tutorial, print_fn=printed.append)
    assert len(printed) == 2
    assert "\n".join(printed) + "\n" == PRINTED
    assert profile == qf.models.profile(tutorial)


def test_without_macs(tutorial):
    printed = []
    qf.models.summary(tutorial, print_fn=printed.append, include_macs=False)
    assert "MACs" not in "".join(printed)
    assert "13.19 KiB" in printed[1]


def test_json(tutorial):
    profile = qf.models.profile(tutorial)
    actual = json.loads(json.dumps(profile.to_dict()))
    assert actual["parameters_by_bits"] == {"1": 93088, "32": 468}
    assert actual["macs_by_precision"] == {"1": 2599552, "32": 194688}
    assert actual["macs"] == sum(m["count"] for f in actual["layers"] for m in f["macs"])
    assert actual["layers"][0]["output_shapes"] == [[None, 26, 26, 32]]


def test_same_after_saving(tutorial, tmp_path):
    path = tmp_path / "model.keras"
    tutorial.save(path)
    assert qf.models.profile(qf.load_model(path)) == qf.models.profile(tutorial)


def test_float_twin():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    profile = qf.models.profile(model)
    assert profile.memory == profile.float_memory == 32 * 36
    assert profile.mac_precisions == [32]
