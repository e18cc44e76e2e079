"""Quantization that begins, changes or stops learning in the course of training."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from fitting import (
    MODES,
    MODES_AND_XLA,
    WITHOUT_XLA,
    Fail,
    Probe,
    X,
    Y,
    equal,
    fit,
    network,
    state,
    weights,
)
from qframe.callbacks import BitwidthSchedule, FreezeQuantizers, QuantizerDelay
from qframe.errors import ArgumentError, QFrameError

EACH_MODE = pytest.mark.parametrize("mode", MODES)
RULES = {
    "kernel_quantizer": "dorefa(k_bit=2, mode='weights')",
    "input_quantizer": "ste_sign",
}

AVERAGE = "integer(gather='moving_average')"


def quantized(**options):
    model = network(**options)
    qf.quantize(model, RULES)
    return model


def called(model):
    return ops.convert_to_numpy(model(X))


def with_state(input_quantizer, **options):
    settings = {"input_quantizer": input_quantizer}
    return network(qf.layers.QuantDense(4, **settings), layers.Dense(2), **options)


# --- QuantizerDelay.


@EACH_MODE
def test_a_delay_is_training_in_float_and_then_quantized(mode):
    delayed = quantized(mode=mode)
    fit(delayed, QuantizerDelay(2), epochs=3)

    expected = quantized(mode=mode)
    with qf.float_weights(expected):
        fit(expected, epochs=2)
    floats = network(mode=mode)
    fit(floats, epochs=2)
    equal(weights(expected), weights(floats), rtol=1e-6)  # so it was in float
    fit(expected, epochs=3, initial_epoch=2)
    equal(weights(delayed), weights(expected), rtol=1e-5, atol=1e-7)


def test_the_weights_alone_can_wait():
    delayed, expected = quantized(), quantized()
    fit(delayed, QuantizerDelay(1, activations=False), epochs=1)
    with qf.float_weights(expected, activations=False):
        fit(expected, epochs=1)
    equal(weights(delayed), weights(expected), rtol=1e-6)
    plain = quantized()
    fit(plain, QuantizerDelay(1), epochs=1)
    assert not np.allclose(weights(plain)[0], weights(delayed)[0])


def test_all_but_the_steps_of_training_is_of_the_quantized_model(tmp_path):
    model = quantized()
    probe = Probe(lambda m: m.predict(X, verbose=0))
    path = tmp_path / "m.keras"
    save = keras.callbacks.ModelCheckpoint(path)
    history = fit(model, QuantizerDelay(5), probe, save, validation_data=(X, Y))
    loss = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(history.history["val_loss"][0], loss, rtol=1e-6)
    again = qf.load_model(path)
    np.testing.assert_array_equal(again.predict(X, verbose=0), probe.recorded[0])
    with qf.float_weights(model):
        assert not np.allclose(model.predict(X, verbose=0), probe.recorded[0])


def test_a_resumed_training_does_not_start_over():
    model, expected = quantized(), quantized()
    fit(model, QuantizerDelay(2), epochs=3, initial_epoch=2)
    fit(expected, epochs=3, initial_epoch=2)
    equal(weights(model), weights(expected))


@EACH_MODE
@pytest.mark.parametrize("again", ["fit", "train_on_batch"])
def test_a_training_that_fails_leaves_nothing_behind(mode, again):
    model, expected = quantized(mode=mode), quantized(mode=mode)
    with pytest.raises(RuntimeError, match="as when memory"):
        fit(model, QuantizerDelay(3), Fail(1), epochs=4)
    expected.set_weights(model.get_weights())
    np.testing.assert_array_equal(called(model), called(expected))
    for made in (model, expected):
        if again == "fit":
            made.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
        else:
            made.train_on_batch(X, Y)
    equal(weights(model), weights(expected), rtol=1e-6, atol=1e-7)
    assert not {"train_step", "make_train_function"} & {*vars(model)}


def test_a_training_that_is_stopped_leaves_nothing_behind():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model, expected = quantized(), quantized()
    fit(model, QuantizerDelay(3), Stop(), epochs=4)
    expected.set_weights(model.get_weights())
    for made in (model, expected):
        fit(made)
    equal(weights(model), weights(expected), rtol=1e-6, atol=1e-7)


def test_a_train_step_of_ones_own_is_used():
    seen = []

    class Own(keras.Sequential):
        def train_step(self, *args):
            seen.append(True)
            return super().train_step(*args)

    model = Own([keras.Input((6,)), layers.Dense(2)])
    qf.quantize(model, RULES)
    model.compile(keras.optimizers.SGD(0.05), "mse", **WITHOUT_XLA)
    floats = network(layers.Dense(2))
    model.set_weights(floats.get_weights())
    fit(model, QuantizerDelay(1), epochs=1)
    fit(floats)
    assert seen
    equal(weights(model), weights(floats), rtol=1e-6)


# --- FreezeQuantizers.


@pytest.mark.parametrize(
    ("quantizer", "mode"),
    [
        *(("lsq", mode) for mode in MODES[:1]),
        *((AVERAGE, mode) for mode in MODES),
        *(("integer(gather='widest')", mode) for mode in MODES[:1]),
    ],
)
def test_frozen_states_keep_every_bit_while_weights_train(quantizer, mode):
    model = with_state(quantizer, mode=mode, optimizer=keras.optimizers.Adam(0.01))
    probe = Probe(lambda m: (state(m.layers[0].quantizers["input"]), weights(m)[0]))
    fit(model, FreezeQuantizers(1), probe, epochs=3, shuffle=True)
    first, second, third = probe.recorded
    equal(second[0], first[0])
    equal(third[0], first[0])
    assert not np.array_equal(third[1], second[1])
    # It was for that training alone.
    fit(model, probe)
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(probe.recorded[-1][0], first[0], strict=True)
    ]
    assert any(changed) or "widest" in quantizer


def test_the_steps_of_training_compute_with_the_frozen_range():
    """A range that moved within a step and was put back afterwards would not do."""
    frozen, expected = with_state(AVERAGE), with_state(AVERAGE)
    for model in (frozen, expected):
        fit(model)
    expected.layers[0].quantizers["input"].freeze()
    fit(frozen, FreezeQuantizers(0))
    fit(expected)
    equal(weights(frozen), weights(expected), rtol=1e-6)


def test_a_failing_training_thaws():
    model = with_state(AVERAGE)
    with pytest.raises(RuntimeError):
        fit(model, FreezeQuantizers(0), Fail(1), epochs=2)
    before = state(model.layers[0].quantizers["input"])
    fit(model)
    after = state(model.layers[0].quantizers["input"])
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_both_at_once():
    model = with_state(AVERAGE)
    probe = Probe(lambda m: state(m.layers[0].quantizers["input"]))
    fit(model, QuantizerDelay(1), FreezeQuantizers(2), probe, epochs=4)
    waiting, begun, frozen, still = probe.recorded
    assert not any(np.any(v) for v in waiting)
    assert any(np.any(v) for v in begun)
    equal(frozen, begun)
    equal(still, begun)


# --- BitwidthSchedule.


def rules(bits):
    return {"kernel_quantizer": f"dorefa(k_bit={bits}, mode='weights')"}


def in_slots(model):
    return [str(getattr(p, "kernel_quantizer", None)) for p in model.layers]


@pytest.mark.parametrize("mode", MODES_AND_XLA)
def test_each_stage_trains_with_its_bits(mode):
    model = network(mode=mode)
    probe = Probe(lambda m: (in_slots(m), weights(m)))
    fit(model, BitwidthSchedule({0: None, 1: 8, 3: 2}, rules), probe, epochs=4)

    expected = network(mode=mode)
    actual = []
    for epoch, bits in enumerate([None, 8, 8, 2]):
        if bits:
            qf.quantize(expected, rules(bits))
        fit(expected, epochs=epoch + 1, initial_epoch=epoch)
        actual.append(weights(expected))
    for (_, now), then in zip(probe.recorded, actual, strict=True):
        equal(now, then, rtol=1e-5, atol=1e-7)
    assert [slots[0] for slots, _ in probe.recorded] == [
        "None",
        *["kbit:dorefa(k_bit=8, mode='weights')"] * 2,
        "kbit:dorefa(mode='weights')",
    ]


def test_validation_and_files_are_of_the_stage(tmp_path):
    model = network()
    path = str(tmp_path / "m{epoch}.keras")
    save = keras.callbacks.ModelCheckpoint(path)
    probe = Probe(lambda m: m.predict(X, verbose=0))
    schedule = BitwidthSchedule({0: None, 1: 2}, rules)
    history = fit(model, schedule, save, probe, epochs=2, validation_data=(X, Y))
    for epoch, actual in enumerate(probe.recorded):
        again = qf.load_model(path.format(epoch=epoch + 1))
        np.testing.assert_allclose(again.predict(X, verbose=0), actual, rtol=1e-6)
        loss = float(np.mean(np.square(actual - Y)))
        np.testing.assert_allclose(history.history["val_loss"][epoch], loss, rtol=1e-5)


def test_a_stage_of_float_empties_the_slots_that_the_rules_fill_and_no_others():
    own = qf.layers.QuantDense(2, input_quantizer="ste_sign")
    model = network(layers.Dense(5, name="a"), own)
    qf.quantize(model, [("re:^a$", rules(4)), (lambda layer: True, None)])

    def on_a(bits):
        return [("re:^a$", rules(bits)), (lambda layer: True, None)]

    probe = Probe(lambda m: [dict(part.quantizers) for part in m.layers])
    fit(model, BitwidthSchedule({0: None, 1: 2}, on_a), probe, epochs=2)
    first, second = probe.recorded
    assert first[0] == {}
    assert second[0]["kernel"].k_bit == 2
    assert "input" in first[1]
    assert "input" in second[1]


def test_a_resumed_schedule_is_at_its_stage():
    model = network()
    probe = Probe(in_slots)
    fit(
        model,
        BitwidthSchedule({0: None, 1: 8, 4: 2}, rules),
        probe,
        epochs=3,
        initial_epoch=2,
    )
    assert "k_bit=8" in probe.recorded[0][0]


def test_a_failing_training_leaves_the_model_at_the_stage_it_reached():
    model = network()
    with pytest.raises(RuntimeError):
        fit(model, BitwidthSchedule({0: 8, 1: 4, 2: 2}, rules), Fail(1), epochs=3)
    assert "k_bit=4" in in_slots(model)[0]
    expected = network()
    expected.set_weights(model.get_weights())
    qf.quantize(expected, rules(4))
    np.testing.assert_allclose(called(model), called(expected), rtol=1e-6)


def test_stages_with_gathered_ranges():
    model = network()

    def ranged(bits):
        return {"input_quantizer": f"integer(bits={bits}, gather='widest')"}

    fit(model, BitwidthSchedule({0: 8, 1: 4}, ranged), epochs=2)
    low = ops.convert_to_numpy(model.layers[0].quantizers["input"].gathered.low)
    assert low == X.min()


def test_quantizers_that_learn_have_no_place_in_a_schedule():
    model = network()
    before = model.get_weights()
    schedule = BitwidthSchedule({0: None, 1: 4}, lambda bits: {"kernel_quantizer": "lsq"})
    with pytest.raises(ArgumentError, match="variables that learn"):
        fit(model, schedule)
    equal(model.get_weights(), before)
    assert type(model.layers[0]) is layers.Dense


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantizerDelay(0), "epochs of QuantizerDelay"),
        (lambda: QuantizerDelay(1, activations=1), "activations of QuantizerDelay"),
        (lambda: FreezeQuantizers(-1), "epoch of FreezeQuantizers"),
        (lambda: BitwidthSchedule({}, rules), "stages of BitwidthSchedule"),
        (lambda: BitwidthSchedule({0: None}, rules), "stages of BitwidthSchedule"),
        (lambda: BitwidthSchedule({0: 0}, rules), "the bits of a stage"),
        (lambda: BitwidthSchedule({-1: 4}, rules), "an epoch"),
        (lambda: BitwidthSchedule({0: 4}, rules(4)), "a function of the bits"),
        (lambda: fit(network(), QuantizerDelay(1)), "has no quantized layer"),
        (lambda: fit(quantized(), FreezeQuantizers(1)), "no quantizer with a state"),
        (
            lambda: fit(
                network(), BitwidthSchedule({0: 8}, lambda b: {"kernel_quantizer": "x"})
            ),
            "x",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(QFrameError, match=message):
        make()
