"""Helpers under the names that Larq has for them."""

import keras
import pytest

import qframe as qf
from qframe.errors import ArgumentError


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
