"""Few bits on MNIST, a sixth of it: trained with steps that learn, and calibrated."""

import keras
import numpy as np
import pytest

import qframe as qf

IMAGES = 10_000
BATCH_SIZE = 64


def learned(bits):
    """Rules for steps that learn; what a ReLU returns is not signed."""
    return {
        "kernel_quantizer": f"lsq(bits={bits})",
        "input_quantizer": f"lsq(bits={bits}, signed=False)",
    }


def network(settings):
    """The network of the tutorial; its first input stays float, as there."""
    normalization = keras.layers.BatchNormalization
    parts = [keras.Input((28, 28, 1))]
    for filters, pool in ((32, 2), (64, 2), (64, 1)):
        parts += [
            keras.layers.Conv2D(filters, 3, use_bias=False),
            keras.layers.MaxPooling2D(pool),
            normalization(scale=False),
            keras.layers.Activation("relu"),
        ]
    parts += [
        keras.layers.Flatten(),
        keras.layers.Dense(64, use_bias=False),
        normalization(scale=False),
        keras.layers.Activation("relu"),
        keras.layers.Dense(10, use_bias=False),
        normalization(scale=False),
        keras.layers.Softmax(),
    ]
    model = keras.Sequential(parts)
    if settings:
        first = {k: v for k, v in settings.items() if k != "input_quantizer"}
        qf.quantize(model, [(qf.first, first), (None, settings)])
    # Keras would compile with XLA, which takes twice as long for this network on a CPU.
    loss = "sparse_categorical_crossentropy"
    # A rate that ends at 0: without it networks differ by luck, from batch to batch.
    rate = keras.optimizers.schedules.CosineDecay(2e-3, IMAGES // BATCH_SIZE)
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    return model


def train(model, data):
    x_train, y_train, *_ = data
    model.fit(x_train, y_train, batch_size=BATCH_SIZE, verbose=0)
    # Without it networks differ by the luck of the last batches.
    qf.recalibrate_batchnorm(model, x_train[:5000], batch_size=250, verbose=0)


def accuracy(model, data):
    """The percentage of the test images that a network gets right."""
    return 100 * model.evaluate(*data[2:], batch_size=512, verbose=0)[1]


def trained(settings, data):
    keras.utils.set_random_seed(0)
    model = network(settings)
    train(model, data)
    return model


@pytest.fixture(scope="module")
def data(mnist):
    with np.load(mnist) as arrays:
        images = [arrays[f"x_{part}"][..., None] / 127.5 - 1 for part in ("train", "test")]
        labels = [arrays[f"y_{part}"] for part in ("train", "test")]
    x_train, x_test = (x.astype("float32") for x in images)
    return x_train[:IMAGES], labels[0][:IMAGES], x_test, labels[1]


@pytest.fixture(scope="module")
def floating(data):
    """The network in float, trained, and how good it is."""
    model = trained(None, data)
    return model, accuracy(model, data)


def show(result):
    print("\n" + "\n".join(f"{name:>12}  {value:.2f} %" for name, value in result.items()))


pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="trained once, on TensorFlow"
    ),
]


# Seeds 0 to 2 gave, with steps of 2 and of 4 bits, 1.8 to 2.3 and 0.2 to 0.4 points less
# than in float; int8 and int4 at most 0.2 less, and int4 trained 0.6 to 0.7 more. The
# bounds are far from that: where numbers are added in another order, other networks come.


@pytest.mark.one_case_in(2)
@pytest.mark.parametrize(("bits", "loss"), [(2, 4.0), (4, 1.0)])
def test_learned_steps(data, floating, bits, loss):
    found = accuracy(trained(learned(bits), data), data)
    show({f"{bits} bits": found, "float": floating[1]})
    assert found >= floating[1] - loss


def test_calibrated(data, floating):
    twin, actual = floating[0], {"float": floating[1]}
    for bits in (8, 4):
        # The float network, quantized and calibrated, not trained.
        model = network(None)
        model.set_weights(twin.get_weights())
        model.optimizer = None
        qf.quantize(model, f"integer_inference(weight_bits={bits})")
        qf.calibrate(model, data[0][:1000], verbose=0)
        model.compile(
            keras.optimizers.Adam(3e-4),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
        actual[f"int{bits}"] = accuracy(model, data)
    train(model, data)
    actual["int4 trained"] = accuracy(model, data)
    show(actual)
    assert actual["int8"] >= actual["float"] - 0.5
    assert actual["int4"] >= actual["float"] - 1.5
    assert actual["int4 trained"] >= actual["float"] - 0.3
