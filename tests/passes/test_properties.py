"""Properties of the passes for any model under any rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import qframe as qf
from fresh_process import quantized
from lifecycle import values
from qframe.errors import QFrameError
from qframe.layers.tree import sites
from qframe.registry.discovery import registry
from qframe.testing.strategies import fitting_rules, inputs, models, rules
from strategies import CONSTRAINTS, QUANTIZERS, Offset

# The last rule is for a quantizer that every model takes.
DRAWN = (QUANTIZERS, CONSTRAINTS, "ste_sign")
pytestmark = pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")


@pytest.fixture(autouse=True)
def _name_of_offset():
    qf.register(Offset, name="offset")
    yield
    registry.forget_local()


def examples(test):
    """A few examples everywhere; many once."""
    few = pytest.param(10, marks=pytest.mark.elsewhere, id="few")
    many = pytest.param(20, marks=pytest.mark.long, id="many")
    return pytest.mark.parametrize("count", [few, many])(test)


def attributes(layer):
    """The names of the attributes of a layer, those that PyTorch keeps aside too."""
    aside = [vars(layer).get(key, ()) for key in ("_modules", "_parameters", "_buffers")]
    names = {*vars(layer)}.union(*aside)
    if isinstance(layer, qf.layers.Quantized):
        # An empty slot is None or no attribute at all.
        names -= {f"{slot}_quantizer" for slot in layer.adapter.slots}
    return names


def state(layer):
    return {
        "attributes": attributes(layer),
        "layers": [id(part) for part in layer._layers],
        "locked": layer._tracker.locked,
        "built": layer.built,
        "trainable": layer.trainable,
        "constraints": [
            v.constraint and (type(v.constraint), v.constraint.get_config())
            for v in layer.weights
        ],
    }


def snapshot(model):
    """Everything of a model that a pass could change, to compare."""
    optimizer = getattr(model, "optimizer", None)
    # First, for the first call of a recurrent cell gives it attributes.
    outputs = ops.convert_to_numpy(model(inputs())).tolist()
    result = [site.layer for site in sites(model)]
    return {
        "classes": [type(layer) for layer in result],
        "states": [state(layer) for layer in result],
        "configs": [config(layer) for layer in result],
        "quantizers": [
            {slot: id(q) for slot, q in getattr(layer, "quantizers", {}).items()}
            for layer in result
        ],
        "weights": [v.tolist() for v in values(model.weights)],
        "variables": [id(v) for v in model.trainable_variables],
        "optimizer": [v.tolist() for v in values(optimizer.variables)] if optimizer else [],
        "outputs": outputs,
    }


def outcome(function, model, rules):
    """The report of a pass, or what it says is wrong."""
    try:
        return function(model, rules)
    except QFrameError as error:
        return f"{type(error).__name__}: {error}"


def config(layer):
    try:
        return repr(layer.get_config())
    except NotImplementedError:
        return "none, for its constructor takes layers"


def same(model, before):
    """Raise, and say in what, unless a model is as it was."""
    for key, result in snapshot(model).items():
        if key == "states":
            for now, then in zip(result, before[key], strict=True):
                for what, value in now.items():
                    assert value == then[what], what
        assert result == before[key], key


@examples
def test_a_plan_is_what_quantize_does_and_strip_the_way_back(count):
    @settings(max_examples=count)
    @given(models(), rules(QUANTIZERS, CONSTRAINTS))
    def check(model, rules):
        before = snapshot(model)
        planned = outcome(qf.plan, model, rules)
        same(model, before)
        report = outcome(qf.quantize, model, rules)
        if isinstance(planned, str):
            assert report == planned
            same(model, before)
            return
        assert report.rows == planned.rows
        actual = quantized(model)
        assert actual.keys() == {row.path for row in report.quantized}
        for row in report.quantized:
            for key, text in row.settings.items():
                if key.endswith("_quantizer"):
                    assert actual[row.path][key] == text
        qf.strip(model)
        same(model, before)

    check()


@examples
def test_the_same_rules_again_change_nothing(count):
    @settings(max_examples=count)
    @given(models(), st.data())
    def check(model, data):
        rules = data.draw(fitting_rules(model, *DRAWN))
        qf.quantize(model, rules)
        before = snapshot(model)
        qf.quantize(model, rules)
        same(model, before)

    check()


@examples
def test_other_rules_give_a_layer_what_they_give_a_plain_one(count):
    @settings(max_examples=count)
    @given(models(), st.data())
    def check(model, data):
        first, second = (data.draw(fitting_rules(model, *DRAWN)) for _ in range(2))
        qf.quantize(model, first)
        earlier = quantized(model)
        rows = {row.path for row in qf.quantize(model, second).quantized}
        actual = quantized(model)
        qf.strip(model)
        qf.quantize(model, second)
        fresh = quantized(model)
        assert fresh.keys() == rows
        # What the second rules are not about stays as the first ones left it.
        assert actual == {**earlier, **fresh}

    check()


class Explosive(Offset):
    """One whose build raises when it is its turn."""

    traits = qf.quantizers.Traits()
    fuse = 0

    def build(self, shape):
        Explosive.fuse -= 1
        if Explosive.fuse == 0:
            raise RuntimeError("unforeseen")
        super().build(shape)


@examples
def test_failed_pass_is_rolled_back(count):
    @settings(max_examples=count)
    @given(models(), st.booleans(), st.integers(1, 4), st.data())
    def check(model, quantized_before, fuse, data):
        if quantized_before:
            qf.quantize(model, data.draw(fitting_rules(model, *DRAWN)))
        before = snapshot(model)
        changes = {"input_quantizer": Explosive(), "weight_constraint": "weight_clip"}
        # A plan builds some, to try them.
        Explosive.fuse = 0
        qf.plan(model, changes)
        Explosive.fuse = fuse - Explosive.fuse
        try:
            qf.quantize(model, changes)
        except QFrameError:
            assert Explosive.fuse == 0
            same(model, before)
        else:
            assert Explosive.fuse > 0

    check()
