"""Float networks with random weights, for tests of passes that keep their function."""

import keras
import numpy as np
from keras import ops

VECTOR, TIME, IMAGE, VOLUME = (5,), (6, 4), (6, 6, 4), (3, 4, 3, 2)


def draw(model, seed=0):
    """Give all weights random values; the scales of normalizations have both signs."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.normal(size=variable.shape)
        if variable.name == "moving_variance":
            values = rng.uniform(0.1, 3, variable.shape)
        elif variable.name == "kernel":
            values /= np.sqrt(np.prod(variable.shape[:-1]))
        if "float" in str(variable.dtype):
            variable.assign(values)
    return model


def chain(*parts, shape=VECTOR):
    keras.utils.set_random_seed(0)
    return draw(keras.Sequential([keras.Input(shape), *parts]))


def batch(model, size=4):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(size, *x.shape[1:])).astype("float32") for x in model.inputs]


def call(model, inputs=None):
    inputs = [ops.convert_to_tensor(x) for x in (inputs or batch(model))]
    outputs = model(inputs[0] if len(inputs) == 1 else inputs)
    return [
        ops.convert_to_numpy(ops.cast(y, "float32")).astype("float64")
        for y in keras.tree.flatten(outputs)
    ]


def near(actual, expected, tolerance=1e-5):
    for a, b in zip(actual, expected, strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, 0, tolerance * max(np.abs(b).max(), 1e-30))


def state(model):
    """All that a failed or second call must leave: classes, configs and weights."""
    parts = [(type(p), p.get_config()) for p in model.layers]
    return parts, [(id(v), ops.convert_to_numpy(v).tolist()) for v in model.variables]


def reloaded(model, path):
    """The model as Keras alone loads it."""
    model.save(path)
    again = keras.models.load_model(path)
    assert all(type(x).__module__.startswith("keras.") for x in again._flatten_layers())
    return again
