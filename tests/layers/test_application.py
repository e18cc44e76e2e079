"""Quantizers that do not fit their weights, and errors that say which layer it is."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from qframe.errors import ArgumentError, QFrameError
from qframe.observation import Observer
from qframe.quantizers import Quantizer


class Pairs(Quantizer):
    """Halves of the first axis; one number more has no half."""

    def call(self, inputs):
        first, second = ops.split(inputs, 2)
        return ops.concatenate([ops.sign(first), ops.sign(second)])


class Learned(Quantizer):
    """A number for each row, which are not allowed to be odd."""

    def build(self, shape):
        if shape[0] % 2:
            raise ArgumentError(f"{shape[0]} rows are odd. Give it an even number.")
        self.scale = self.add_weight(name="scale", shape=(shape[0], 1), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


class Fragile(Quantizer):
    """Raises once it is set to."""

    broken = False

    def call(self, inputs):
        if self.broken:
            raise ArgumentError("it is broken. Mend it.")
        return ops.sign(inputs)


def divided(inputs):
    raise ZeroDivisionError("by zero")


class Divided(Quantizer):
    """Raises an error that is not one of qframe."""

    call = staticmethod(divided)


def pairs(inputs):
    return Pairs()(inputs)


def network():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, name="even"), layers.Dense(2, name="odd")],
        name="inner",
    )
    return keras.Sequential([keras.Input((6,)), inner], name="outer")


@pytest.mark.parametrize(
    "quantizer", [Pairs(), Learned(), pairs], ids=["shared", "with state", "a function"]
)
def test_a_plan_names_the_layer_whose_weight_a_quantizer_does_not_fit(quantizer):
    model = network()
    for function in (qf.plan, qf.quantize):
        with pytest.raises(QFrameError) as caught:
            function(model, {"kernel_quantizer": quantizer})
        place = "'inner/odd', kernel_quantizer on (3, 2): "
        assert str(caught.value).startswith(place)
        assert {type(layer) for layer in model.layers[0].layers} == {layers.Dense}
    rules = [("re:inner/odd", None), (layers.Dense, {"kernel_quantizer": quantizer})]
    assert len(qf.quantize(model, rules).quantized) == 1
    model(np.ones((1, 6), "float32"))


def test_a_layer_names_itself_where_it_is_built():
    layer = qf.layers.QuantDense(2, kernel_quantizer=Pairs(), name="head")
    with pytest.raises(QFrameError, match=r"^'head', kernel_quantizer on \(3, 2\): "):
        layer.build((None, 3))
    qf.layers.QuantDense(2, kernel_quantizer=Pairs()).build((None, 4))


def test_a_slot_keeps_its_quantizer_where_another_does_not_fit():
    layer = qf.layers.QuantDense(2, kernel_quantizer=Fragile(), name="head")
    layer.build((None, 3))
    before = layer.quantizers["kernel"]
    for quantizer in (Pairs(), Learned()):
        with pytest.raises(QFrameError, match=r"^'head', kernel_quantizer on \(3, 2\): "):
            layer.quantizers["kernel"] = quantizer
        assert layer.quantizers["kernel"] is before


@pytest.mark.parametrize("slot", ["input", "kernel", "bias", "output"])
def test_error_of_a_quantizer_in_a_call_begins_with_the_path_of_the_layer(slot):
    layer = qf.layers.QuantDense(2, name="head", **{f"{slot}_quantizer": Fragile()})
    layer.build((None, 3))
    layer.quantizers[slot].broken = True
    with pytest.raises(ArgumentError, match=rf"^'head', {slot}_quantizer.*: it is broken"):
        layer(np.ones((1, 3), "float32"))


def test_the_cell_of_a_recurrent_layer_is_named_too():
    layer = layers.SimpleRNN(2, name="memory")
    model = keras.Sequential([keras.Input((4, 3)), layer])
    qf.quantize(model, {"input_quantizer": Fragile(), "kernel_quantizer": Fragile()})
    for slot in ("input", "kernel"):
        layer.cell.quantizers[slot].broken = True
        with pytest.raises(ArgumentError, match=rf"^'[^']*simple_rnn_cell', {slot}_quant"):
            layer(np.ones((1, 4, 3), "float32"))
        layer.cell.quantizers[slot].broken = False


def test_foreign_errors_keep_their_name_and_cause():
    layer = qf.layers.QuantDense(2, kernel_quantizer=divided, name="head")
    with pytest.raises(
        QFrameError, match=r"it raised ZeroDivisionError: by zero\."
    ) as actual:
        layer.build((None, 3))
    assert isinstance(actual.value.__cause__, ZeroDivisionError)


def test_an_error_of_an_observer_is_not_the_quantizers():
    layer = qf.layers.QuantDense(2, kernel_quantizer=Fragile(), name="head")
    layer.build((None, 3))

    class Broken(Observer):
        def on_quantizer(self, quantizer, call, inputs, *args, **kwargs):
            raise RuntimeError("oops")

    scope = qf.context.scoped(observer=Broken())
    with pytest.raises(RuntimeError, match="oops"), scope:
        layer(np.ones((1, 3), "float32"))


@pytest.mark.parametrize("quantizer", [Divided(), divided], ids=["class", "function"])
@pytest.mark.parametrize("observer", [None, Observer()], ids=["alone", "observed"])
def test_an_error_of_an_observed_quantizer_begins_with_the_path_too(observer, quantizer):
    layer = qf.layers.QuantDense(2, input_quantizer=quantizer, name="head")
    layer.build((None, 3))
    scope = qf.context.scoped(observer=observer)
    message = r"^'head', input_quantizer: it raised ZeroDivisionError: by zero"
    with pytest.raises(QFrameError, match=message), scope:
        layer(np.ones((1, 3), "float32"))


def test_a_trial_starts_nothing_and_draws_nothing():
    settings = {"kernel_quantizer": "lsq", "bias_quantizer": "stochastic_ternary(seed=3)"}
    layer = qf.layers.QuantDense(2, **settings)
    layer.build((None, 3))
    learned, drawn = layer.quantizers["kernel"], layer.quantizers["bias"]
    assert float(learned.step.started) == 0
    (state,) = (v for v in drawn.variables if "seed" in v.path)
    fresh = qf.quantizers.get("stochastic_ternary(seed=3)")
    (expected,) = (v for v in fresh.variables if "seed" in v.path)
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (state, expected)))


SHAPES = [(), (1,), (5,), (6, 4), (3, 3, 2, 5), (7, 1)]


@pytest.mark.long
@pytest.mark.parametrize("axis", [None, 0, -1, (-2, -1)], ids=str)
@pytest.mark.parametrize(
    "word",
    [
        "integer(granularity='channel')",
        "integer(granularity='group', group_size=4)",
        "float8_e4m3(scale='channel')",
        "mxfp4(block_size=4)",
        "mxint8(axis=1)",
    ],
)
def test_a_shape_is_said_to_fit_where_it_does(word, axis):
    quantizer = qf.quantizers.get(word)
    for shape in SHAPES:
        given = {"channel_axis": axis} if quantizer.traits.channelwise else {}
        called = fits(quantizer, ops.ones(shape), **given)
        assert fits(quantizer.fits, shape, axis) == called, shape


def fits(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except ArgumentError:
        return False
    return True


def test_a_quantizer_that_knows_what_fits_is_not_tried():
    class Known(Quantizer):
        called = 0

        def fits(self, shape, channel_axis=-1):
            if shape[0] % 2:
                raise ArgumentError("an odd number of rows. Give it an even one.")
            return True

        def call(self, inputs):
            type(self).called += 1
            return inputs

    qf.layers.QuantDense(2, kernel_quantizer=Known()).build((None, 4))
    assert Known.called == 0
    with pytest.raises(ArgumentError, match=r"^'d', kernel_quantizer on \(3, 2\): an odd"):
        qf.layers.QuantDense(2, kernel_quantizer=Known(), name="d").build((None, 3))
