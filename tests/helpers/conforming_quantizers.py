"""Quantizers that keep all their promises; each mutant breaks one of them."""

from typing import ClassVar

import keras
import numpy as np
from keras import ops

from qframe.constraints import Constraint
from qframe.quantizers import (
    Learned,
    Quantizer,
    Traits,
    axes_within_channels,
    clip_through,
    round_through,
)


class Thirds(Quantizer):
    """-1, -1/3, 1/3, 1, for inputs from -1 to 1; ties go up."""

    precision = 2
    promises: ClassVar = {
        "levels": (-1.0, -1 / 3, 1 / 3, 1.0),
        "range": (-1.0, 1.0),
        "support": (-1.0, 1.0),
        "elementwise": True,
        "idempotent": True,
        "monotone": True,
        "odd": True,
    }

    def __init__(self, sharpness=1.0, **kwargs):
        super().__init__(**kwargs)
        self.sharpness = sharpness

    @property
    def traits(self):
        return Traits(
            **self.promises,
            reference=lambda x: self.steps(np.clip(x, -1, 1), np.floor),
            surrogate=lambda x: ((np.abs(x) <= 1) * self.sharpness).astype(x.dtype),
        )

    def steps(self, x, floor):
        return (floor((x + 1) * 1.5 + 0.5) / 1.5 - 1).astype(x.dtype)

    def value(self, inputs):
        x = clip_through(inputs, -1, 1)
        return ops.floor((x + 1) * 1.5 + 0.5) / 1.5 - 1

    def gradient(self, inputs):
        return ops.cast(ops.abs(inputs) <= 1, inputs.dtype) * self.sharpness


class MeanSign(Quantizer):
    """The sign times the mean magnitude of each output channel."""

    precision = 1

    @property
    def traits(self):
        return Traits(
            levels=(-1.0, 1.0),
            range=(-1.0, 1.0),
            odd=True,
            scaled=True,
            channelwise=True,
            reference=lambda x, axis: np.copysign(self.mean(x, axis), x + 0.0),
            surrogate=lambda x, axis: self.mean(x, axis) * np.ones_like(x),
        )

    def mean(self, x, axis):
        axes = axes_within_channels(x.ndim, axis)
        return np.abs(x).mean(axis=axes, keepdims=True).astype(x.dtype)

    def scale(self, inputs, axis):
        axes = axes_within_channels(len(inputs.shape), axis)
        return (
            ops.mean(ops.abs(inputs), axis=axes, keepdims=True)
            if axes
            else (ops.abs(inputs))
        )

    def affine(self, inputs, channel_axis=-1):
        return self.scale(inputs, channel_axis), 0

    def value(self, inputs, channel_axis=-1):
        one = ops.ones_like(inputs)
        return self.scale(inputs, channel_axis) * ops.where(inputs < 0, -one, one)

    def gradient(self, inputs, channel_axis=-1):
        return self.scale(inputs, channel_axis) * ops.ones_like(inputs)


class Step(Quantizer):
    """Integers from -4 to 3, times a step that learns."""

    precision = 3
    promises: ClassVar = {
        "levels": tuple(range(-4, 4)),
        "range": (-4, 3),
        "elementwise": True,
        "monotone": True,
        "scaled": True,
        "trainable": True,
        "updates": True,
    }

    @property
    def traits(self):
        return Traits(
            **self.promises,
            reference=lambda x: self.rounded(x, self.now()),
            surrogate=lambda x: self.inside(x / self.now()).astype(x.dtype),
        )

    def now(self):
        return ops.convert_to_numpy(self.step.start + self.step.change)

    def rounded(self, x, step):
        return (np.rint(np.clip(x / step, -4, 3)) * step).astype(x.dtype)

    def inside(self, steps):
        return (steps >= -4) & (steps <= 3)

    def build(self, shape):
        self.step = Learned(self, "step")

    def size(self, inputs, training=False):
        x = ops.cast(inputs, "float32")
        # A tensor without numbers has no mean.
        usual = ops.sum(ops.abs(x)) / ops.cast(ops.maximum(ops.size(x), 1), x.dtype)
        return self.step(usual + 1e-6, training)

    def affine(self, inputs):
        return self.size(inputs), 0

    def call(self, inputs, training=False):
        step = self.size(inputs, training)
        x = ops.cast(inputs, "float32")
        steps = round_through(clip_through(x / step, -4, 3))
        return ops.cast(steps * step, inputs.dtype)


class Reach(Quantizer):
    """Clips at a reach that learns, and that starts as the first batch's largest number."""

    @property
    def traits(self):
        return Traits(trainable=True, updates=True)

    def build(self, shape):
        self.reach = Learned(self, "reach")

    def call(self, inputs, training=False):
        x = ops.cast(inputs, "float32")
        reach = self.reach(ops.max(ops.abs(x)) + 1e-6, training)
        return ops.cast(ops.maximum(ops.minimum(x, reach), -reach), inputs.dtype)


class Coin(Quantizer):
    """Stochastic rounding to integers from -2 to 1 in training, rounding in inference."""

    precision = 2
    promises: ClassVar = {
        "levels": (-2.0, -1.0, 0.0, 1.0),
        "range": (-2.0, 1.0),
        "elementwise": True,
        "idempotent": True,
        "monotone": True,
        "stochastic": True,
    }

    def __init__(self, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    @property
    def traits(self):
        return Traits(
            **self.promises,
            reference=lambda x: np.rint(np.clip(x, -2, 1)),
            surrogate=lambda x: ((x >= -2) & (x <= 1)).astype(x.dtype),
        )

    def noise(self, inputs):
        return keras.random.uniform(ops.shape(inputs), -0.5, 0.5, seed=self.generator)

    def call(self, inputs, training=False):
        x = clip_through(inputs, -2, 1)
        if training:
            drawn = ops.cast(self.noise(inputs), x.dtype)
            return round_through(clip_through(x + drawn, -2, 1))
        return round_through(x)


class UnitMax(Constraint):
    """Scales a weight so that no magnitude is above a limit."""

    def __init__(self, limit=1.0):
        self.limit = limit

    def __call__(self, w):
        largest = ops.max(ops.abs(w))
        return w * ops.cast(self.limit, w.dtype) / ops.maximum(largest, self.limit)
