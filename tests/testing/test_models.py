"""The choices of the kit for models."""

import keras

from qframe.testing.models import KINDS


def test_recurrent_layers_loop_over_time_and_unroll():
    made = [make(None) for make in KINDS.values()]
    recurrent = [layer for layer in made if isinstance(layer, keras.layers.RNN)]
    assert {layer.unroll for layer in recurrent} == {False, True}
