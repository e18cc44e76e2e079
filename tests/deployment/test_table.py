"""The table of Keras layers names functions, and each of these functions is named."""

import inspect

import keras

from qframe.deployment.lowering import (
    attention,
    contracting,
    images,
    layers,
    normalizations,
    products,
    recurrent,
    shapes,
    transposed,
)
from qframe.deployment.lowering.layers import lowerings
from qframe.layers import table
from qframe.layers.adapters import ADAPTERS, EXPLICIT, full_adapter_of
from qframe.models import kernels, sequences
from qframe.models.macs import COUNTERS


def functions(parameters, *modules):
    """The public functions of modules that have these parameters, by name."""
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and [*inspect.signature(value).parameters] == parameters
    }


def test_every_lowering_is_named_and_every_name_is_one():
    modules = (
        *(attention, contracting, images, layers, normalizations, products),
        *(recurrent, shapes, transposed),
    )
    known = functions(["tracer", "layer", "inputs"], *modules)
    rows = [*table._ROWS.values(), *table._PRIVATE.values()]
    assert {row.lowering for row in rows if row.lowering} == set(known)


def test_every_counter_is_named_and_every_name_is_one():
    counters = {
        name
        for name, value in functions(["layer", "call"], kernels, sequences).items()
        if "MacCount" in str(inspect.signature(value).return_annotation)
    }
    # The function for layer classes of users is not that of one class.
    assert {row.counter for row in table._ROWS.values() if row.counter} == (
        counters - {"adapted"}
    )


def test_rows_reach_what_reads_them():
    conv, row = keras.layers.Conv2D, table.TABLE[keras.layers.Conv2D]
    assert [w.prefix for w in EXPLICIT[conv].weights] == [w[1] for w in row.weights]
    assert COUNTERS[conv] is kernels.convolution
    assert lowerings()[conv] is products.convolution
    assert ADAPTERS[keras.layers.LSTMCell].slots == (
        *("input", "kernel", "recurrent", "bias", "output"),
    )
    assert keras.layers.ReLU not in COUNTERS
    assert lowerings()[keras.layers.LSTM] is recurrent.recurrent
    assert keras.layers.RNN not in lowerings()
    # Recipes fill the slots of the cell, and the loop has none.
    assert full_adapter_of(keras.layers.LSTM(2)) is None


def test_layers_that_this_keras_lacks_are_left_out():
    layers_here = {getattr(keras.layers, name, None) for name in table._ROWS}
    assert {*table.TABLE} == {*layers_here, *table._PRIVATE} - {None}
