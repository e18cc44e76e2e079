"""Scopes: that in which weights read as quantized, and what all of them have in common."""

import contextlib
import threading

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qframe as qf
from qframe import context
from qframe.errors import QFrameError

KERNEL = np.array([[0.5, -0.25], [0.5, 0.5], [-0.125, 2]], "float32")
SIGNS = np.array([[1, -1], [1, 1], [-1, 1]], "float32")


def model():
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    made.set_weights([KERNEL])
    qf.quantize(made, {"kernel_quantizer": "ste_sign"})
    return made


def test_reading():
    network = model()
    (layer,) = network.layers
    with qf.context.quantized_scope(True):
        assert qf.context.should_quantize()
        np.testing.assert_array_equal(network.get_weights()[0], SIGNS)
        np.testing.assert_array_equal(layer.get_weights()[0], SIGNS)
        np.testing.assert_array_equal(np.array(layer.kernel), SIGNS)
        product = keras.ops.matmul(np.eye(3, dtype="float32"), layer.kernel)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(product), SIGNS)
        assert layer.kernel.shape == (3, 2)
        assert layer.kernel.name == "kernel"
        assert "quantized" in repr(layer.kernel)
        with qf.context.quantized_scope(False):
            np.testing.assert_array_equal(network.get_weights()[0], KERNEL)
    np.testing.assert_array_equal(network.get_weights()[0], KERNEL)


def test_the_scope_ends_by_an_exception_too():
    with pytest.raises(KeyError), qf.context.quantized_scope(True):
        raise KeyError
    assert not qf.context.should_quantize()


def test_calls_are_as_ever():
    network = model()
    network.layers[0].quantizers["kernel"] = "magnitude_aware_sign"
    expected = keras.ops.convert_to_numpy(network(np.eye(3)))
    with qf.context.quantized_scope(True):
        actual = keras.ops.convert_to_numpy(network(np.eye(3)))
    np.testing.assert_array_equal(actual, expected)


def test_training_within_is_refused_or_as_ever():
    network = model()
    network.compile("sgd", "mse", jit_compile=False)
    with qf.context.quantized_scope(True):
        if keras.backend.backend() == "jax":
            network.fit(np.eye(3), -SIGNS, verbose=0)
        else:
            with pytest.raises(QFrameError, match="Leave the scope to train"):
                network.fit(np.eye(3), -SIGNS, verbose=0)
            np.testing.assert_array_equal(network.get_weights()[0], SIGNS)
    if keras.backend.backend() != "jax":
        np.testing.assert_array_equal(network.get_weights()[0], KERNEL)
        network.fit(np.eye(3), -SIGNS, verbose=0)
    assert (network.get_weights()[0] != KERNEL).any()


def test_assignments_change_latent_weights(tmp_path):
    network = model()
    network.save_weights(tmp_path / "latent.weights.h5")
    with qf.context.quantized_scope(True):
        network.set_weights([2 * KERNEL])
    np.testing.assert_array_equal(network.get_weights()[0], 2 * KERNEL)
    with qf.context.quantized_scope(True):
        network.layers[0].kernel.assign(3 * KERNEL)
    np.testing.assert_array_equal(network.get_weights()[0], 3 * KERNEL)
    with qf.context.quantized_scope(True):
        network.load_weights(tmp_path / "latent.weights.h5")
    np.testing.assert_array_equal(network.get_weights()[0], KERNEL)


def test_a_layer_can_be_built_within():
    with qf.context.quantized_scope(True):
        layer = qf.layers.QuantDense(2, kernel_quantizer="ste_sign(clip_value=None)")
        layer.build((None, 3))
        assert {abs(v) for v in np.array(layer.kernel).ravel()} == {1}


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "quantized_reads": st.booleans(),
        "frozen": st.booleans(),
        "substituted": st.dictionaries(
            st.tuples(st.integers(0, 3), st.just("w")), st.none()
        ),
        "observer": st.sampled_from([None, "one", "another"]),
    },
)
LAYERS = [object() for _ in range(4)]
IDLE = st.dictionaries(
    st.sampled_from([id(layer) for layer in LAYERS]),
    st.sampled_from([frozenset(), frozenset({"kernel"}), frozenset({"kernel", "input"})]),
)


def fields():
    return context.current()._asdict()


def idle_slots():
    return {id(layer): context.idle_slots(layer) for layer in LAYERS}


def in_a_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


@given(st.lists(st.tuples(CHANGES, IDLE), max_size=5), st.randoms(), st.booleans())
def test_scopes_that_end_in_any_order_leave_those_that_have_not(blocks, order, fails):
    outermost, active, number = fields(), {}, 0

    def check():
        expected, idle = dict(outermost), {id(layer): frozenset() for layer in LAYERS}
        for changes, slots, _ in active.values():
            expected.update(changes)
            idle.update(slots)
        assert fields() == expected
        assert in_a_thread(fields) == outermost
        assert idle_slots() == in_a_thread(idle_slots) == idle

    blocks = list(blocks)
    while blocks or active:
        if blocks and (not active or order.random() < 0.5):
            changes, slots = blocks.pop()
            stack = contextlib.ExitStack()
            stack.enter_context(context.scoped(**changes))
            stack.enter_context(context.idle(slots))
            number += 1
            active[number] = changes, slots, stack
        else:
            *_, stack = active.pop(order.choice(list(active)))
            if fails:
                with pytest.raises(KeyError), stack:
                    raise KeyError
            else:
                stack.close()
        check()
    assert fields() == outermost


def test_a_scope_in_a_generator_may_end_within_another():
    network = model()

    def in_scope():
        with qf.context.quantized_scope(True):
            yield

    generator = in_scope()
    next(generator)
    with qf.float_weights(network):
        generator.close()
    assert not qf.context.should_quantize()
    np.testing.assert_array_equal(network.get_weights()[0], KERNEL)


def test_blocks_of_two_threads_end_in_any_order():
    begun, end = threading.Event(), threading.Event()
    one, two = LAYERS[:2]

    def other():
        with context.idle({id(one): frozenset("a")}):
            begun.set()
            end.wait()

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    with context.idle({id(two): frozenset("b")}):
        assert [context.idle_slots(each) for each in (one, two)] == [{"a"}, {"b"}]
        end.set()
        thread.join()
        assert [context.idle_slots(each) for each in (one, two)] == [set(), {"b"}]
    assert not context.idle_slots(two)


def test_a_model_is_in_float_in_threads_that_entered_a_scope_before():
    network = model()
    entered, begun, called, ended = (threading.Event() for _ in range(4))
    actual = []

    def other():
        with qf.context.quantized_scope(False):
            entered.set()
            for event in (begun, ended):
                event.wait()
                actual.append(keras.ops.convert_to_numpy(network(np.eye(3))))
                called.set()

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    with qf.float_weights(network):
        begun.set()
        called.wait()
    ended.set()
    thread.join()
    np.testing.assert_array_equal(actual[0], KERNEL)
    np.testing.assert_array_equal(actual[1], SIGNS)


def test_a_model_is_in_float_in_threads_that_start_within():
    network = model()
    network.layers[0].quantizers["kernel"] = "ste_sign"

    def predicted():
        return keras.ops.convert_to_numpy(network(np.eye(3)))

    with qf.float_weights(network):
        np.testing.assert_array_equal(in_a_thread(predicted), KERNEL)
    np.testing.assert_array_equal(in_a_thread(predicted), SIGNS)
