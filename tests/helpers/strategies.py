"""The choices of the kit's strategies in the properties of the passes."""

import keras
from hypothesis import strategies as st

import qframe as qf


class Offset(qf.quantizers.Quantizer):
    """One with a variable that learns."""

    traits = qf.quantizers.Traits(trainable=True)

    def build(self, shape):
        self.offset = self.add_weight(name="offset", shape=(), initializer="ones")

    def call(self, inputs):
        return inputs + keras.ops.cast(self.offset, inputs.dtype)


QUANTIZERS = st.sampled_from(
    [
        "ste_sign",
        "ste_sign(clip_value=0.5)",
        "approx_sign",
        "magnitude_aware_sign",
        "no_op(precision=4)",
        Offset(),
    ]
)
CONSTRAINTS = st.sampled_from(["weight_clip", None])
