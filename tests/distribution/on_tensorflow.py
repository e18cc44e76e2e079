"""Train the scenarios on one device and on two, with TensorFlow.

Usage: python on_tensorflow.py FOLDER
"""

# ruff: noqa: E402
# The engine is set up before Keras is imported.

import sys

import tensorflow as tf

(CPU,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * 2
)

import keras
import numpy as np

import qframe as qf
from distribution import document, scenarios
from distribution.scenarios import BATCH, SCENARIOS, Notes, X, arrays, trained


def main(folder):
    notes = Notes(folder, "tensorflow")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    models = {}
    for name, make in SCENARIOS.items():
        with notes.attempt(name):
            notes.arrays(f"{name}.one", trained(make()))
            with strategy.scope():
                models[name] = make()
            notes.arrays(f"{name}.mirrored", trained(models[name]))
            notes.facts[f"{name} copies"] = max(map(apart, models[name].variables))
    with notes.attempt("outside"):
        with strategy.scope():
            model = scenarios.plain()
        notes.arrays("quantized.outside", trained(scenarios.quantized(model)))
    quantizer_text = "integer(rounding='stochastic')"
    layer = qf.layers.QuantDense(2, kernel_quantizer=quantizer_text)
    with notes.attempt("made outside"), strategy.scope():
        layer.build((None, 6))
    with notes.attempt("goes on"):
        file = f"{folder}/flips.keras"
        models["flips"].save(file)
        with strategy.scope():
            notes.arrays("flips on.mirrored", trained(qf.load_model(file)))
        notes.arrays("flips on.one", trained(qf.load_model(file)))
    with notes.attempt("reload"):
        file = f"{folder}/ranges.keras"
        models["ranges"].save(file)
        both = models["ranges"], qf.load_model(file)
        result = [model.predict(X, verbose=0) for model in both]
        notes.facts["reload"] = float(np.abs(result[0] - result[1]).max())
    with notes.attempt("batch norm"):
        with strategy.scope():
            normalize = keras.layers.BatchNormalization(momentum=0.0)
            model = keras.Sequential([keras.Input((6,)), normalize])
            model.compile("sgd", "mse")
        x = X[:BATCH]
        model.fit(x, x, batch_size=BATCH, shuffle=False, verbose=0)
        mean = keras.ops.convert_to_numpy(normalize.moving_mean)
        notes.facts["batch norm"] = float(np.abs(mean - x[: BATCH // 2].mean(0)).max())
    for synchronized, batch_size in ((True, BATCH), (False, BATCH // 2)):
        with notes.attempt("estimates"):
            one = scenarios.normalized(synchronized)
            with strategy.scope():
                two = scenarios.normalized(synchronized)
            two.set_weights(one.get_weights())
            for model, size, kind in ((one, batch_size, "one"), (two, BATCH, "mirrored")):
                qf.recalibrate_batchnorm(model, X, batch_size=size, verbose=0)
                qf.calibrate(model, X, batch_size=size, verbose=0)
                notes.arrays(f"estimates {synchronized}.{kind}", arrays(model))
    with notes.attempt("reports"):
        notes.arrays("reports.one", scenarios.reported(*scenarios.pair()))
        with strategy.scope():
            pair = scenarios.pair()
        notes.arrays("reports.mirrored", scenarios.reported(*pair))
    with notes.attempt("float"):
        with strategy.scope():
            pair = scenarios.pair()
        with qf.float_weights(pair[1]):
            result = [model.predict(X, batch_size=BATCH, verbose=0) for model in pair]
        notes.facts["float"] = float(np.abs(result[0] - result[1]).max())
    with notes.attempt("document"):
        # TensorFlow's collectives take one strategy in a process, as the document says.
        tf.distribute.MirroredStrategy = lambda: strategy
        document.run("TensorFlow")
    notes.write()


def apart(variable):
    """The largest difference between the copies of a variable."""
    copies = [np.asarray(copy, "float64") for copy in variable.value.values]
    return float(max(np.abs(copy - copies[0]).max() for copy in copies))


if __name__ == "__main__":
    main(*sys.argv[1:])
