"""Full-integer LiteRT files of one network, by qframe and by what else makes them.

All have the same float network and the same examples for ranges.
"""

import time

import keras
import numpy as np
import pytest
from lite import converted

import qframe as qf
from qframe.cli.quickstart import data

pytest.importorskip("ai_edge_litert", reason="in the environment `bench`")
EXAMPLES = 300


@pytest.fixture(scope="module")
def trained():
    """A network that knows digits, and the digits."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    x = y = keras.Input((*digits.x_train.shape[1:3], 1))
    for filters in (16, 32):
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        z = layers.DepthwiseConv2D(3, padding="same", activation="relu")(y)
        y = layers.MaxPooling2D()(layers.Add()([y, z]))
    y = layers.Dense(10)(layers.GlobalAveragePooling2D()(y))
    model = keras.Model(x, y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(
        data.as_input(digits.x_train),
        digits.y_train,
        batch_size=16,
        epochs=digits.epochs,
        verbose=0,
    )
    return model, digits


def by_qframe(model, examples, path):
    qf.quantize(model, "int8")
    qf.calibrate(model, examples, verbose=0)
    qf.export(model, path, target="litert")


def by_converter(model, examples, path):
    path.write_bytes(converted(model, 1, examples[:, None]))


def by_ai_edge_quantizer(model, examples, path):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    reason = "pip install ai-edge-quantizer"
    ai_edge_quantizer = pytest.importorskip("ai_edge_quantizer", reason=reason)
    saved = str(path.with_suffix(""))
    model.export(saved, verbose=False)
    content = tf.lite.TFLiteConverter.from_saved_model(saved).convert()
    ends = Interpreter(model_content=content).get_signature_list()["serving_default"]
    recipe = ai_edge_quantizer.recipe.static_wi8_ai8()
    quantizer = ai_edge_quantizer.quantizer.Quantizer(bytearray(content), recipe)
    batches = [{ends["inputs"][0]: x[None]} for x in examples]
    ranges = quantizer.calibrate({"serving_default": batches})
    path.write_bytes(quantizer.quantize(ranges).quantized_model)


def outputs(path, images):
    """What the runtime computes from floats, one image at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    (inputs,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = inputs["quantization"]
    results = []
    for x in images[:, None]:
        if scale:
            x = np.clip(np.rint(x / np.float32(scale)) + zero, -128, 127)
        interpreter.set_tensor(inputs["index"], x.astype(inputs["dtype"]))
        interpreter.invoke()
        results.append(interpreter.get_tensor(out["index"])[0])
    floats = sum(t["dtype"] is np.float32 for t in interpreter.get_tensor_details())
    return np.array(results), floats


WAYS = {
    "qframe": by_qframe,
    "the converter of TensorFlow": by_converter,
    "ai-edge-quantizer": by_ai_edge_quantizer,
}


@pytest.mark.parametrize("name", WAYS)
def test_a_way_prints_its_row(name, trained, tmp_path):
    model, digits = trained
    copy, path = keras.models.clone_model(model), tmp_path / "m.tflite"
    copy.set_weights(model.get_weights())
    examples, test = data.as_input(digits.x_train)[:EXAMPLES], data.as_input(digits.x_test)
    start = time.perf_counter()
    WAYS[name](copy, examples, path)
    seconds = time.perf_counter() - start
    found, floats = outputs(path, test)
    accuracy = np.mean(found.argmax(-1) == digits.y_test)
    before = np.mean(model.predict(test, verbose=0).argmax(-1) == digits.y_test)
    cells = [name, f"{path.stat().st_size:,}", floats, f"{seconds:.1f} s"]
    print(f"\n| {' | '.join(map(str, cells))} | {accuracy:.2%} of {before:.2%} |")
    assert accuracy > before - 0.05
