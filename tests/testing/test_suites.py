"""Calls of the kit, and its errors for wrong ones."""

import pytest

import qframe as qf
from conforming_quantizers import Thirds
from qframe.errors import ArgumentError, PluginError, QFrameError, UnknownNameError
from qframe.registry.discovery import registry
from qframe.testing import (
    ConformanceError,
    check_constraint,
    check_plugin,
    check_quantizer,
    parametrize_with_checks,
    plugin_checks,
    quantizer_checks,
)

pytestmark = pytest.mark.ends


@pytest.fixture
def broken():
    @qf.register
    class Doubled(Thirds):
        def value(self, inputs):
            return 2 * super().value(inputs)

    yield Doubled
    registry.forget_local()


def names(checks):
    return {check.name for check in checks}


def test_the_traits_choose_the_checks():
    plain = names(quantizer_checks("ste_sign"))
    assert {"levels", "surrogate", "support", "idempotent"} <= plain
    assert not {"learns", "draws", "channelwise"} & plain
    assert "channelwise" in names(quantizer_checks("magnitude_aware_sign"))
    assert "support" not in names(quantizer_checks("ste_sign(clip_value=None)"))
    assert {"levels", "bits"}.isdisjoint(names(quantizer_checks("noop(precision=8)")))


def test_every_check_says_what_it_promises():
    for check in quantizer_checks("ste_sign"):
        assert check.promise.endswith("."), check.name
        assert str(check) == f"binary:ste_sign-{check.name}"


def test_class_that_is_not_registered_is_refused():
    class Stray(Thirds):
        pass

    with pytest.raises(ConformanceError, match=r"Write qframe\.register\(Stray\)"):
        check_quantizer(Stray)


def test_an_expected_failure_needs_a_known_name_and_a_reason(broken):
    with pytest.raises(ArgumentError, match="Did you mean 'levels'"):
        check_quantizer(broken, {"level": "doubled"})
    with pytest.raises(ArgumentError, match="no reason for 'levels'"):
        check_quantizer(broken, {"levels": " "})
    with pytest.raises(ArgumentError, match="which is not a check"):
        parametrize_with_checks([broken], expected_failures={"soundness": "doubled"})


def test_an_expected_failure_that_passes_is_an_error(broken):
    failing = {}
    for check in quantizer_checks(broken):
        try:
            check()
        except AssertionError:
            failing[check.name] = "values are doubled"
    assert {"levels", "range_", "reference"} <= failing.keys()
    check_quantizer(broken, failing)
    with pytest.raises(ConformanceError, match=r"nan.*\n.*passes, but was expected"):
        check_quantizer(broken, {**failing, "nan": "once it failed"})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_quantizer("ste_sgn"), UnknownNameError, "Did you mean"),
        (lambda: check_quantizer(lambda x: x), ArgumentError, "takes a qframe.quantizers"),
        (lambda: check_quantizer("ste_sign(clip=1)"), ArgumentError, "no argument 'clip'"),
        (lambda: check_constraint("non_neg"), ArgumentError, "takes a constraint"),
        (lambda: check_plugin("binry"), PluginError, "Did you mean 'binary'"),
        (
            lambda: plugin_checks("binary", ["ste_sgn"]),
            PluginError,
            "Did you mean 'ste_sign'",
        ),
        (lambda: parametrize_with_checks("ste_sign"), ArgumentError, r"\['ste_sign'\]"),
        (lambda: parametrize_with_checks([]), ArgumentError, "nothing to check"),
        (lambda: parametrize_with_checks(["stesign"]), QFrameError, "unknown quantizer"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
