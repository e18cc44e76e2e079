"""The network of the quickstart."""

import qframe as qf
from qframe.cli.quickstart import network


def test_network_is_that_of_the_tutorial():
    model = network.build()
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    # What Larq's tutorial prints: 93.1 k trainable and 468 other parameters, 13.19 KiB.
    profile = qf.models.profile(model)
    assert profile.parameter_count(bits=1) == 93088
    assert profile.parameter_count(bits=32) == 468
    assert round(profile.memory / 8 / 1024, 2) == 13.19


def test_everything_but_the_image_is_binary():
    layers = [layer for layer in network.build().layers if hasattr(layer, "adapter")]
    assert len(layers) == 5
    for layer in layers:
        assert str(layer.kernel_quantizer.identifier).startswith("binary:ste_sign")
        assert str(layer.kernel_constraint.identifier).startswith("binary:weight_clip")
        assert not layer.use_bias
    inputs = [layer.input_quantizer for layer in layers]
    assert inputs[0] is None
    assert all(str(q.identifier).startswith("binary:ste_sign") for q in inputs[1:])
