"""The values that layers must compute, in NumPy, from separate formulas.

Nothing here asks qframe what is quantized: the tests record it in a part for each layer.
"""

import attrs
import numpy as np
from keras import ops

# The names of quantizers, and the bits that a summary must state for a weight.
SIGN = "ste_sign(clip_value=None)"
INTEGER = "integer(bits=4)"
WIDEST = "integer(bits=3, symmetric=False, gather='widest')"
AVERAGE = "integer(bits=5, gather='moving_average', momentum=0.5)"
LEARNED = "lsq(bits=3)"
BITS = {SIGN: 1, INTEGER: 4, WIDEST: 3, AVERAGE: 5, LEARNED: 3}
GATHERING = (WIDEST, AVERAGE)
# The slot of each weight, in the order of the variables of a layer.
WEIGHTS = {"kernel": "kernel", "recurrent": "recurrent_kernel", "bias": "bias"}


class Doubt:
    """Return whether rounding of float32 could have made another value of a quantizer."""

    def __init__(self):
        self.any = False

    def at(self, distances):
        self.any |= bool((np.abs(distances) < 1e-4).any())


def initial_state(text):
    """The variables of a new quantizer."""
    names = {
        **dict.fromkeys(GATHERING, ("low", "high", "started", "frozen")),
        LEARNED: ("step", "step_start", "step_started"),
    }
    return dict.fromkeys(names.get(text, ()), 0.0)


def quantized(text, state, x, training, doubt):
    """The values of a quantizer; in training its state goes on."""
    if text == SIGN:
        # An exact zero is one on every device.
        doubt.at(x[x != 0])
        return np.where(x < 0, -1.0, 1.0)
    if text == LEARNED:
        started = state["step_started"]
        start = state["step_start"] if started else 2 * np.abs(x).mean() / 3**0.5
        if training:
            state.update(step_start=start, step_started=1.0)
        step = max(start + state["step"], 1e-12)
        return _rounded(x, step, 0, -4, 3, doubt)
    low, high = x.min(), x.max()
    if text in GATHERING:
        low, high = _gathered(text, state, low, high, training)
    low, high = min(low, 0.0), max(high, 0.0)
    bits = BITS[text]
    first, last = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if text != WIDEST:
        return _rounded(x, max(-low, high, 1e-30) / last, 0, first, last, doubt)
    scale = max((high - low) / (last - first), 1e-30)
    exact = first - low / scale
    doubt.at(exact - np.floor(exact) - 0.5)
    return _rounded(x, scale, np.rint(exact), first, last, doubt)


def _rounded(x, scale, zero, first, last, doubt):
    steps = x / scale + zero
    inner = steps[(steps > first - 1) & (steps < last + 1)]
    doubt.at(inner - np.floor(inner) - 0.5)
    return (np.clip(np.rint(steps), first, last) - zero) * scale


def _gathered(text, state, low, high, training):
    if state["started"]:
        before = state["low"], state["high"]
        if not training:
            return before
        if text == WIDEST:
            low, high = min(before[0], low), max(before[1], high)
        else:
            low, high = (
                0.5 * a + 0.5 * b for a, b in zip(before, (low, high), strict=True)
            )
    if training:
        state.update(low=low, high=high, started=1.0)
    return low, high


def calibrated(text, state, x):
    """The state of a quantizer with a range, set from the numbers that reach it."""
    if text == LEARNED:
        start = max(x.min() / -4, x.max() / 3)
        state.update(step=0.0, step_start=start, step_started=1.0)
    elif text in GATHERING:
        state.update(low=x.min(), high=x.max(), started=1.0)


@attrs.define(eq=False)
class Part:
    """A dense layer or the cell of a simple recurrent one, and what it must be.

    Args:
        layer: what is called and frozen.
        holder: what has the slots: the layer or its cell.
        tanh: whether that is the activation; else there is none.
        weights: the latent weights, by slot.
        slots: the name of the quantizer in each slot that is filled.
        states: the variables of these.
        quantized: whether the layer has slots.
        trainable: whether it may change in training.
    """

    layer: object
    holder: object
    tanh: bool
    weights: dict = attrs.field(factory=dict)
    slots: dict = attrs.field(factory=dict)
    states: dict = attrs.field(factory=dict)
    quantized: bool = False
    trainable: bool = True

    def __attrs_post_init__(self):
        if not self.weights:
            self.weights = self.read()[0]

    @property
    def recurrent(self):
        return self.layer is not self.holder

    @property
    def all_slots(self):
        # What a cell returns is within the loop over time.
        last = [] if self.recurrent else ["output"]
        return ["input", *self.weights, *last]

    def copied(self, layer, holder):
        """The same of a copy of the layer."""
        state = {slot: dict(initial_state) for slot, initial_state in self.states.items()}
        return attrs.evolve(
            self,
            layer=layer,
            holder=holder,
            weights=dict(self.weights),
            slots=dict(self.slots),
            states=state,
        )

    def fill(self, slot, text):
        """A new quantizer in a slot."""
        self.slots[slot], self.states[slot] = text, initial_state(text)

    def empty(self, slot):
        del self.slots[slot], self.states[slot]

    def rules(self, settings):
        """The slots as a rule makes them; what is there already keeps its state."""
        self.quantized = True
        for slot in [slot for slot in self.slots if slot not in settings]:
            self.empty(slot)
        for slot, text in settings.items():
            if self.slots.get(slot) != text:
                self.fill(slot, text)

    def strip(self):
        self.slots, self.states, self.quantized = {}, {}, False

    def __call__(self, x, doubt, training=False, idle=(), seen=None):
        """Return the outputs of the layer; `seen` gets the inputs of each slot."""
        training = training and self.trainable

        def read(slot, value):
            if seen is not None:
                seen[slot] = value
            if slot not in self.slots or slot in idle:
                return value
            return quantized(self.slots[slot], self.states[slot], value, training, doubt)

        x = read("input", x)
        weights = {slot: read(slot, w.astype(float)) for slot, w in self.weights.items()}
        activation = np.tanh if self.tanh else lambda y: y
        if not self.recurrent:
            return read("output", activation(x @ weights["kernel"] + weights["bias"]))
        y = np.zeros((len(x), weights["bias"].shape[0]))
        for step in range(x.shape[1]):
            inner = x[:, step] @ weights["kernel"] + y @ weights["recurrent"]
            y = activation(inner + weights["bias"])
        return y

    def calibrate(self, x, doubt):
        """Set the ranges of a call in float, and return what that returns."""
        seen = {}
        y = self(x, doubt, idle=self.all_slots, seen=seen)
        for slot, text in self.slots.items():
            calibrated(text, self.states[slot], seen[slot])
        return y

    def read(self):
        """The latent weights by slot, and the variables of the quantizers."""

        def array(variable):
            return ops.convert_to_numpy(variable).copy()

        weights = {
            slot: array(getattr(self.holder, attribute))
            for slot, attribute in WEIGHTS.items()
            if hasattr(self.holder, attribute)
        }
        states = {}
        for slot in self.slots:
            quantizer = getattr(self.holder, f"{slot}_quantizer")
            states[slot] = {v.name: array(v) for v in quantizer.variables}
        return weights, states
