"""Quantized layers compute quantized values, after any operations on any model.

The machine keeps what each layer must be in plain Python, and computes in NumPy what the
models must return.
"""

import copy
import io
import itertools
import pickle
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from keras import ops

import qframe as qf
from expected import AVERAGE, BITS, INTEGER, LEARNED, SIGN, WEIGHTS, WIDEST, Doubt
from fitting import WITHOUT_XLA
from fresh_process import quantized
from qframe.errors import ArgumentError
from qframe.registry.configurable import described
from shared_parts import KINDS, Network, beside, holder, inputs, networks, parts_of

MODELS = st.sampled_from(["inner", "outer", "beside"])
TRACED = st.sampled_from(["outer", "inner", "beside"])
TRAINED = st.sampled_from(["outer", "beside"])
TARGETS = st.sampled_from(["a layer", "inner", "outer", "beside"])
# First those that hypothesis prefers: they have variables.
TEXTS = st.sampled_from([WIDEST, LEARNED, SIGN, AVERAGE, INTEGER])
INDEX = st.integers(0, 3)


def near(result, expected, what):
    np.testing.assert_allclose(result, expected, 1e-4, 1e-5, err_msg=what)


def filled(texts):
    """The slots of some layer in the order in which they are filled."""
    # First those that hypothesis prefers: not in the order in which layers have them.
    slots = st.permutations(["output", "kernel", "bias", "input", "recurrent"])
    return st.builds(
        lambda order, texts: dict(zip(order, texts, strict=False)),
        slots,
        st.lists(texts, min_size=2, max_size=4),
    )


def saved(model):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.keras"
        model.save(path)
        return qf.load_model(path)


def pickled(model):
    file = io.BytesIO()
    pickle.dump(model, file)
    file.seek(0)
    return pickle.load(file)


def cloned(model):
    return keras.models.clone_model(model)


class Machine(RuleBasedStateMachine):
    """Three models that share layers, and what each of their layers must be."""

    compared = doubtful = 0

    @initialize(
        kind=st.sampled_from(list(KINDS)),
        traced=TRACED,
        frozen=st.sampled_from([0, None, 1]),
        name=MODELS,
        settings=filled(TEXTS),
    )
    def make(self, kind, traced, frozen, name, settings):
        """Models of some kind: one is traced, a layer may be frozen, some are quantized."""
        keras.utils.clear_session(free_memory=False)
        self.kind, self.x = kind, inputs(kind)
        self.y = np.random.default_rng(4).normal(size=(5, 2)).astype("float32")
        self.networks = networks(kind)
        self.classes = self.all_classes()
        self.traced, self.stale = set(), {"outer", "beside"}
        self.predict(traced)
        if frozen is not None:
            self.freeze("a layer", frozen, True)
        self.quantize(name, 0, settings)

    @property
    def parts(self):
        result = itertools.chain.from_iterable(n.parts for n in self.networks.values())
        return list({id(part): part for part in result}.values())

    def part(self, index):
        return self.parts[index % len(self.parts)]

    def target(self, name, index):
        """A model or layer, and the parts in it."""
        if name in self.networks:
            return self.networks[name].model, self.networks[name].parts
        part = self.part(index)
        return part.layer, [part]

    def all_classes(self):
        models = [network.model for network in self.networks.values()]
        return [[type(layer) for layer in model._flatten_layers()] for model in models]

    # What models compute.

    def compare(self, name, result, idle=(), parts=(), training=False):
        """It is what NumPy computes, within `idle` of some parts; False in doubt."""
        doubt, expected = Doubt(), self.x.astype(float)
        for part in self.networks[name].parts:
            slots = idle if part in parts else ()
            expected = part(expected, doubt, training=training, idle=slots)
        Machine.compared += 1
        Machine.doubtful += doubt.any
        if not doubt.any:
            near(ops.convert_to_numpy(result), expected, f"outputs of {name}")
        return not doubt.any

    @invariant()
    def computes_what_it_must(self):
        # The inner model is in the outer one.
        for name in ("outer", "beside"):
            self.compare(name, self.networks[name].model(self.x))

    def check_report(self, name, network):
        layers = qf.models.profile(network.model).layers
        result = quantized(network.model)
        said = {path.split("/")[-1]: settings for path, settings in result.items()}
        for part in network.parts:
            settings = said.pop(part.holder.name, {})
            slots = {s: described(qf.quantizers.get(t)) for s, t in part.slots.items()}
            actual = {
                k.removesuffix("_quantizer"): v
                for k, v in settings.items()
                if "straint" not in k
            }
            assert actual == slots, (name, part.holder.name)
            (row,) = [each for each in layers if part.layer.name in each.name.split("/")]
            bits = {w.name: w.bits for w in row.weights}
            for slot in part.weights:
                assert bits[WEIGHTS[slot]] == BITS.get(part.slots.get(slot), 32), (
                    name,
                    slot,
                )
        assert not said, name

    @invariant()
    def nothing_else_changed(self):
        for part in self.parts:
            weights, states = part.read()
            for slot, value in part.weights.items():
                np.testing.assert_array_equal(weights[slot], value, err_msg=part.layer.name)
            for slot, state in part.states.items():
                assert states[slot].keys() == state.keys()
                for key, value in state.items():
                    near(states[slot][key], value, f"{key} of {slot} of {part.layer.name}")

    @rule(name=TRACED)
    def predict(self, name):
        """By a function that the model keeps, also when its layers change."""
        self.traced.add(name)
        self.compare(name, self.networks[name].model.predict_on_batch(self.x))

    @rule(name=MODELS)
    def call_in_training(self, name):
        """Update the ranges of quantizers that gather, unless they are frozen."""
        network = self.networks[name]
        sure = self.compare(name, network.model(self.x, training=True), training=True)
        self.go_on(network, set(), sure)

    @rule(name=TRAINED, whole=st.booleans())
    def train(self, name, whole):
        """One step: the loss is that of the quantized model, and only what may learns."""
        self.compile_if_stale(name)
        network, doubt = self.networks[name], Doubt()
        if whole:
            history = network.model.fit(self.x, self.y, batch_size=len(self.x), verbose=0)
            (loss,) = history.history["loss"]
        else:
            loss = network.model.train_on_batch(self.x, self.y)
        # After it, for this lets the states of the parts go on.
        outputs = network(self.x.astype(float), doubt, training=True)
        if not doubt.any:
            near(loss, np.mean((outputs - self.y) ** 2), f"loss of {name}")
        last = network.parts[-1]
        bias = last.weights["bias"]
        for part in network.parts:
            if part.trainable:
                part.weights, _ = part.read()
        self.go_on(network, {"step"}, not doubt.any)
        if last.trainable and not {"bias", "output"} & last.slots.keys():
            assert (last.weights["bias"] != bias).any()

    def go_on(self, network, learned, sure):
        """Take from the model what it learned, and all its states where in doubt."""
        for part in network.parts:
            if part.trainable:
                _, states = part.read()
                for slot, state in part.states.items():
                    taken = learned & state.keys() if sure else state.keys()
                    state.update({key: states[slot][key] for key in taken})

    def compile_if_stale(self, name):
        if name in self.stale:
            model = self.networks[name].model
            model.compile(keras.optimizers.SGD(0.1), "mse", **WITHOUT_XLA)
            self.stale.discard(name)

    # What changes them.

    @rule(name=TARGETS, index=INDEX, settings=filled(TEXTS))
    def quantize(self, name, index, settings):
        target, parts = self.target(name, index)
        taken = [
            (p, {s: t for s, t in settings.items() if s in p.all_slots}) for p in parts
        ]
        known = {slot for _, some in taken for slot in some}
        settings = {slot: text for slot, text in settings.items() if slot in known}
        if name != "a layer" and any(part.recurrent for part in parts):
            settings.pop("output", None)
        rules = {f"{slot}_quantizer": text for slot, text in settings.items()}
        taken = [(p, {s: t for s, t in settings.items() if s in some}) for p, some in taken]
        if not any(some for _, some in taken):
            return
        learning = [part for part, some in taken if LEARNED in some.values()]
        for each in ("outer", "beside"):
            network = self.networks[each]
            optimizer = getattr(network.model, "optimizer", None)
            if getattr(optimizer, "built", False) and {*learning} & {*network.parts}:
                with pytest.raises(ArgumentError, match="was built without them"):
                    qf.quantize(target, rules)
                self.nothing_else_changed()
                self.stale.add(each)
                self.compile_if_stale(each)
        planned = qf.plan(target, rules)
        report = qf.quantize(target, rules)
        assert report.rows == planned.rows
        rows = {row.path.split("/")[-1]: row.settings for row in report.quantized}
        for part, some in taken:
            if some:
                part.rules(some)
                texts = {s: described(qf.quantizers.get(t)) for s, t in some.items()}
                listed = rows.pop(part.holder.name)
                assert listed == {f"{s}_quantizer": text for s, text in texts.items()}
        assert not rows
        if LEARNED in settings.values():
            self.stale = {"outer", "beside"}

    @precondition(lambda self: any(part.quantized for part in self.parts))
    @rule(index=INDEX, slot=INDEX, text=TEXTS)
    def assign(self, index, slot, text):
        part = self.quantized_part(index)
        slot = part.all_slots[slot % len(part.all_slots)]
        part.holder.quantizers[slot] = text
        if LEARNED in (text, part.slots.get(slot)):
            self.stale = {"outer", "beside"}
        part.fill(slot, text)

    @precondition(lambda self: any(part.slots for part in self.parts))
    @rule(index=INDEX, slot=INDEX)
    def delete(self, index, slot):
        filled = [part for part in self.parts if part.slots]
        part = filled[index % len(filled)]
        slots = list(part.slots)
        slot = slots[slot % len(slots)]
        del part.holder.quantizers[slot]
        part.empty(slot)
        self.stale = {"outer", "beside"}

    def quantized_part(self, index):
        result = [part for part in self.parts if part.quantized]
        return result[index % len(result)]

    @rule(name=TARGETS, index=INDEX)
    def strip(self, name, index):
        target, parts = self.target(name, index)
        report = qf.strip(target)
        assert len(report.rows) == sum(part.quantized for part in parts)
        for part in parts:
            part.strip()
        self.stale = {"outer", "beside"}

    @precondition(lambda self: any(part.quantized for part in self.parts))
    @rule(name=MODELS, activations=st.booleans())
    def in_float(self, name, activations):
        model, parts = self.target(name, 0)
        if not any(part.quantized for part in parts):
            return
        with qf.float_weights(model, activations=activations):
            idle = set(WEIGHTS) | ({"input", "output"} if activations else set())
            for each, network in self.networks.items():
                self.compare(each, network.model(self.x), idle, parts)
            if name in self.traced:
                self.compare(name, model.predict_on_batch(self.x), idle, parts)

    @rule(name=TARGETS, index=INDEX, frozen=st.booleans())
    def freeze(self, name, index, frozen):
        target, parts = self.target(name, index)
        # TensorFlow passes over an assignment of what is there, whatever is within.
        target.trainable = frozen
        target.trainable = not frozen
        for part in parts:
            part.trainable = not frozen
        self.stale = {"outer", "beside"}

    @precondition(
        lambda self: any(part.states[slot] for part in self.parts for slot in part.states)
    )
    @rule(name=MODELS)
    def calibrate(self, name):
        network = self.networks[name]
        if not any(part.states[slot] for part in network.parts for slot in part.states):
            return
        qf.calibrate(network.model, self.x, verbose=0)
        x = self.x.astype(float)
        for part in network.parts:
            x = part.calibrate(x, Doubt())

    # What copies them.

    @rule(
        name=MODELS,
        copied=st.sampled_from([saved, cloned, pickled, copy.deepcopy]),
        file=st.booleans(),
    )
    def take_a_copy(self, name, copied, file):
        """A copy is the same; go on with that of the outer model."""
        result, parts = self.check_copy(name, copied, file)
        if name == "outer":
            first, last = parts[0], self.networks["beside"].parts[-1]
            other = beside(self.kind, first.layer, last.layer)
            self.networks = {
                "inner": Network(result.layers[-2], parts[:-1]),
                "outer": Network(result, parts),
                "beside": Network(other, [first, last]),
            }
            # Its optimizer knows what there was, as that of a model which was trained.
            self.stale = {"outer", "beside"}
            self.compile_if_stale("outer")

    def check_copy(self, name, copied, file):
        """The copy of a model and its parts, which are and compute the same."""
        network = self.networks[name]
        result = copied(network.model)
        outputs = ops.convert_to_numpy(network.model(self.x))
        weights = network.model.get_weights()
        if copied is not cloned:
            np.testing.assert_array_equal(ops.convert_to_numpy(result(self.x)), outputs)
            for a, b in zip(result.get_weights(), weights, strict=True):
                np.testing.assert_array_equal(a, b)
        elif file:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "m.weights.h5"
                network.model.save_weights(path)
                result.load_weights(path)
        else:
            result.set_weights(weights)
        np.testing.assert_array_equal(ops.convert_to_numpy(result(self.x)), outputs)
        parts = [
            part.copied(layer, holder(layer))
            for part, layer in zip(
                network.parts, self.parts_of_copy(name, result), strict=True
            )
        ]
        self.check_report(f"copy of {name}", Network(result, parts))
        return result, parts

    def parts_of_copy(self, name, model):
        if name == "inner":
            return parts_of(model)
        if name == "outer":
            return [*parts_of(model.layers[-2]), model.layers[-1]]
        return model.layers[1:]

    def teardown(self):
        """Check traces, reports, a file, and the way back to the float models."""
        if not hasattr(self, "networks"):
            return
        for name in sorted(self.traced):
            self.predict(name)
        self.call_in_training("outer")
        self.nothing_else_changed()
        for name, network in self.networks.items():
            self.check_report(name, network)
        self.check_copy("outer", saved, file=False)
        for network in self.networks.values():
            qf.strip(network.model)
        for part in self.parts:
            part.strip()
        self.computes_what_it_must()
        for name in sorted(self.traced):
            self.predict(name)
        self.nothing_else_changed()
        assert self.all_classes() == self.classes


@pytest.mark.once_per_backend
def test_quantized_layers_compute_quantized_values():
    default = settings().max_examples
    count = 4 if default <= 100 else default
    chosen = settings(
        max_examples=count,
        stateful_step_count=6,
        # To shrink a failure would take many times as long as all examples.
        phases=[Phase.reuse, Phase.generate],
        # A slow machine fails nothing.
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Machine, settings=chosen)
    # Where rounding could decide, nothing was compared.
    assert Machine.doubtful < Machine.compared / 10
