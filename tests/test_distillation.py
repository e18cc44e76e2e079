"""A quantized student that learns from a float teacher."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from fitting import MODES, MODES_AND_XLA, X, Y
from qframe.errors import ArgumentError, NotBuiltError, QFrameError

LABELS = np.argmax(Y, axis=1)


def network(activation="softmax", units=2, name=None):
    parts = [layers.Dense(5, activation="relu"), layers.Dropout(0.5)]
    parts += [layers.BatchNormalization(), layers.Dense(units, activation=activation)]
    return keras.Sequential([keras.Input((6,)), *parts], name=name)


def pair(**options):
    keras.utils.set_random_seed(0)
    student, teacher = network(name="s", **options), network(name="t", **options)
    return student, teacher


def values(model):
    return [ops.convert_to_numpy(v) for v in model.variables]


def compiled(model, loss="sparse_categorical_crossentropy", mode=MODES[0], **options):
    model.compile(
        keras.optimizers.SGD(0.1),
        loss,
        jit_compile=mode == "xla",
        run_eagerly=mode == "eager",
        **options,
    )
    return model


def softened(logits, temperature):
    shifted = (logits - logits.max(-1, keepdims=True)) / temperature
    return np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_loss_by_hand(from_logits):
    """Without dropout and batch normalization, whose training differs from inference."""
    activation = None if from_logits else "softmax"
    student, teacher = (
        keras.Sequential([keras.Input((6,)), layers.Dense(3, activation=activation)])
        for _ in range(2)
    )
    model = qf.distill(student, teacher, temperature=2, alpha=0.25, from_logits=from_logits)
    compiled(model, keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
    logits = [X @ m.get_weights()[0] + m.get_weights()[1] for m in (student, teacher)]
    hard = -np.log(softened(logits[0], 1)[np.arange(64), LABELS]).mean()
    s, t = (softened(part, 2) for part in logits)
    soft = 4 * (t * np.log(t / s)).sum(-1).mean()
    actual = model.train_on_batch(X, LABELS)
    np.testing.assert_allclose(
        float(np.ravel(actual)[0]), 0.25 * hard + 0.75 * soft, rtol=1e-4
    )


@pytest.mark.parametrize("mode", MODES_AND_XLA)
def test_a_student_learns_from_its_teacher_alone(mode):
    """With alpha 0 the labels, wrong ones here, do not matter."""
    student, teacher = pair()
    compiled(teacher).fit(X, LABELS, epochs=30, verbose=0)
    before = values(teacher)
    qf.quantize(
        student, [("re:.*", {"kernel_quantizer": "dorefa(k_bit=4, mode='weights')"})]
    )
    model = compiled(qf.distill(student, teacher, alpha=0.0), mode=mode)

    def distance():
        outputs = [m.predict(X, verbose=0) for m in (student, teacher)]
        return np.abs(outputs[0] - outputs[1]).mean()

    first = distance()
    model.fit(X, 1 - LABELS, epochs=20, verbose=0)
    assert distance() < 0.6 * first
    for a, b in zip(before, values(teacher), strict=True):
        np.testing.assert_array_equal(a, b)
    assert teacher.trainable


def test_alpha_one_is_training_without_a_teacher():
    student, teacher = pair()
    alone = keras.models.clone_model(student)
    alone.set_weights(student.get_weights())
    for each in (alone, student):
        each.layers[1].rate = 0.0
    compiled(qf.distill(student, teacher, alpha=1.0)).fit(
        X, LABELS, batch_size=16, shuffle=False, verbose=0
    )
    compiled(alone).fit(X, LABELS, batch_size=16, shuffle=False, verbose=0)
    for a, b in zip(student.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_it_evaluates_predicts_and_saves_as_the_student(tmp_path):
    student, teacher = pair()
    model = compiled(qf.distill(student, teacher), metrics=["accuracy"])
    save = keras.callbacks.ModelCheckpoint(tmp_path / "checkpoint.keras")
    history = model.fit(
        X, LABELS, validation_data=(X, LABELS), callbacks=[save], verbose=0
    ).history
    expected = student.predict(X, verbose=0)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-6)
    loss = -np.log(expected[np.arange(64), LABELS]).mean()
    np.testing.assert_allclose(history["val_loss"], [loss], rtol=1e-4)
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    for name in ("m.keras", "checkpoint.keras"):
        again = qf.load_model(tmp_path / name)
        assert again.name == "s"
        np.testing.assert_array_equal(again.predict(X, verbose=0), expected)
    twin = network()
    twin.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(twin.predict(X, verbose=0), expected)
    with pytest.raises(ArgumentError, match="Save or clone its student"):
        model.get_config()
    assert len(model.trainable_variables) == len(student.trainable_variables)


def test_callbacks_reach_the_layers_of_the_student():
    student, teacher = pair()
    qf.quantize(student, {"kernel_quantizer": "dorefa(k_bit=2, mode='weights')"})
    model = compiled(qf.distill(student, teacher))
    callbacks = [
        qf.callbacks.RecalibrateBatchNorm(X, batch_size=64),
        qf.callbacks.QuantizerDelay(1),
        qf.callbacks.QuantizationMetrics(),
    ]
    history = model.fit(X, LABELS, epochs=2, callbacks=callbacks, verbose=0).history
    assert len(history["flip_ratio"]) == 2


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2, activation="softmax")

    def call(self, x):
        return self.dense(x)


def test_subclassed_models_sample_weights_and_a_dataset():
    student, teacher = Subclassed(), Subclassed()
    for each in (student, teacher):
        each(X)
    model = compiled(qf.distill(student, teacher))
    before = student.get_weights()
    model.fit(X, LABELS, sample_weight=np.zeros(64), verbose=0)
    for a, b in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(X, LABELS, sample_weight=np.ones(64), verbose=0)
    assert not np.array_equal(before[0], student.get_weights()[0])


def test_several_outputs():
    def make():
        x = keras.Input((6,))
        heads = {name: layers.Dense(3, activation="softmax", name=name)(x) for name in "ab"}
        return keras.Model(x, heads)

    student, teacher = make(), make()
    model = compiled(
        qf.distill(student, teacher, alpha=0.0),
        dict.fromkeys("ab", "sparse_categorical_crossentropy"),
    )
    model.fit(X, {"a": LABELS, "b": LABELS}, epochs=60, verbose=0)
    outputs = [m.predict(X, verbose=0) for m in (student, teacher)]
    for name in "ab":
        np.testing.assert_allclose(outputs[0][name], outputs[1][name], atol=0.2)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    student, teacher = pair()
    model = compiled(qf.distill(student, teacher))
    assert np.isfinite(model.fit(X, LABELS, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: qf.distill(network(), network(units=3)),
            ArgumentError,
            "has the outputs of",
        ),
        (lambda: qf.distill(layers.Dense(2), network()), ArgumentError, "student must be"),
        (lambda: qf.distill(network(), None), ArgumentError, "teacher must be"),
        (lambda: qf.distill(network(), Subclassed()), NotBuiltError, "is not built"),
        (lambda: qf.distill(*[network()] * 2), ArgumentError, "the same model"),
        (
            lambda: qf.distill(*pair(), temperature=0),
            ArgumentError,
            "temperature of distill",
        ),
        (lambda: qf.distill(*pair(), temperature=np.inf), ArgumentError, "must be finite"),
        (lambda: qf.distill(*pair(), alpha=1.5), ArgumentError, "alpha of distill"),
        (lambda: qf.distill(*pair(), alpha=True), ArgumentError, "alpha of distill"),
        (lambda: qf.distill(*pair(), from_logits=0), ArgumentError, "from_logits"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_outputs_that_only_a_call_can_tell():
    student = Subclassed()
    student(X)
    model = compiled(qf.distill(student, network(units=3)))
    with pytest.raises(QFrameError, match="has the outputs of"):
        model.fit(X, LABELS, verbose=0)
