"""The metrics of sensitivity, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from examples import settings
from qframe.errors import ArgumentError, DataError
from qframe.passes.bit_widths.metrics import metric_of

pytestmark = pytest.mark.tensorflow

P = np.array([[0.5, 0.5], [0.9, 0.1]])
Q = np.array([[0.25, 0.75], [0.9, 0.1]])
LOGITS = st.integers(2, 4).flatmap(
    lambda n: arrays.arrays(float, (2, 3, n), elements=st.floats(-20, 20))
)


def test_divergence_of_probabilities_is_their_mean():
    expected = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
    assert metric_of("kl")(P, Q, None, "softmax") == pytest.approx(expected)
    # What adds up to 1 is taken for probabilities where the function is not known.
    assert metric_of("kl")(P, Q, None, None) == pytest.approx(expected)


def test_divergence_of_sigmoids_is_the_sum_of_those_of_each():
    p, q = np.array([[0.5, 0.9]]), np.array([[0.25, 0.9]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert metric_of("kl")(p, q, None, "sigmoid") == pytest.approx(expected)


def test_divergence_of_one_logit_is_that_of_its_sigmoid():
    p, q = np.array([[0.5]]), np.array([[0.25]])
    logits = [np.log(x / (1 - x)) for x in (p, q)]
    expected = metric_of("kl")(p, q, None, "sigmoid")
    assert metric_of("kl")(*logits, None, "linear") == pytest.approx(expected)


@settings(max_examples=50)
@given(LOGITS, st.floats(-5, 5))
def test_divergence_is_zero_for_equal_logits_and_never_negative(logits, shift):
    metric = metric_of("kl(form='logits')")
    assert metric(logits, logits + shift, None, None) == pytest.approx(0, abs=1e-9)
    assert metric(logits, logits[:, ::-1], None, None) >= -1e-12


def test_forms_that_outputs_do_not_have_are_errors():
    with pytest.raises(DataError, match="always 0"):
        metric_of("kl").assumption(np.ones((4, 1)), "softmax")
    with pytest.raises(DataError, match="form='logits'"):
        metric_of("kl(form='softmax')").assumption(np.array([[3.0, 4.0]]), None)
    with pytest.raises(ArgumentError, match="Did you mean 'softmax'"):
        metric_of("kl(form='softmx')")
    with pytest.raises(DataError, match="no signal"):
        metric_of("sqnr").assumption(np.zeros((4, 2)), None)


def test_noise_is_by_the_signal():
    assert metric_of("sqnr")(np.array([3.0, 4.0]), np.array([3.0, 5.0]), None, None) == 0.04


@pytest.mark.parametrize(
    "labels", [np.array([1, 0]), np.array([[1], [0]]), np.eye(2)[::-1]]
)
def test_loss_of_classes_is_the_increase_of_the_cross_entropy(labels):
    expected = (-np.log(0.75) + np.log(0.5)) / 2
    assert metric_of("loss")(P, Q, labels, "softmax") == pytest.approx(expected)


def test_loss_of_sigmoids_is_binary():
    p, q, labels = np.array([[0.5], [0.5]]), np.array([[0.25], [0.5]]), np.array([1, 0])
    expected = (-np.log(0.25) + np.log(0.5)) / 2
    assert metric_of("loss")(p, q, labels, "sigmoid") == pytest.approx(expected)


def test_loss_of_numbers_is_the_increase_of_the_squared_error():
    y, q, labels = np.array([[1.0], [2.0]]), np.array([[2.0], [2.0]]), np.array([1.0, 2.0])
    assert metric_of("loss")(y, q, labels, "linear") == pytest.approx(0.5)
    term = metric_of("loss(term='squared_error')")
    assert term(y, q, labels.astype(int), "linear") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1, 2]), "the classes 0 to 1"),
        (np.array([1, 2, 1]), "do not fit outputs"),
        (np.ones((2, 5)), "do not fit outputs"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(labels, message):
    with pytest.raises(DataError, match=message):
        metric_of("loss(term='cross_entropy')")(P, Q, labels, "softmax")
    with pytest.raises(DataError, match="do not fit outputs"):
        metric_of("loss(term='squared_error')")(P, Q, np.ones(3), "linear")
