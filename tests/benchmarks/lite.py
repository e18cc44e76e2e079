"""LiteRT with a Keras model, as float32 or as int8, in one thread."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def converted(
    model: Any, batch: int, examples: Iterable[Any] = (), ends: bool = True
) -> bytes:
    """A file of TensorFlow's converter, float32 or of integers.

    Args:
        model: a Keras model without quantizers.
        batch: the images of a call.
        examples: batches for the ranges of integers; none for float32.
        ends: whether its inputs and outputs are integers too, where there are ranges.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    shape = (batch, *model.input_shape[1:])
    # Its own converter of Keras models leaves variables, which it does not quantize.
    function = tf.function(lambda x: model(x, training=False))
    frozen = convert_variables_to_constants_v2(
        function.get_concrete_function(tf.TensorSpec(shape))
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    batches = list(examples)
    if batches:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x] for x in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if ends:
            converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def lite(model: Any, batch: int, whole: bool, ends: bool = True) -> Callable[[], Any]:
    """A call of LiteRT with its copies, whose ranges are those of noise.

    Args:
        model: a Keras model without quantizers.
        batch: the images of a call.
        whole: whether all numbers are int8.
        ends: whether inputs and outputs are int8 then, too.
    """
    shape = (batch, *model.input_shape[1:])
    noise = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    return called(converted(model, batch, noise if whole else (), ends))


def called(content: bytes) -> Callable[[], Any]:
    """A call of a file with its copies, in one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    inputs = interpreter.get_input_details()[0]
    outputs = interpreter.get_output_details()[0]
    x = np.ones(inputs["shape"], inputs["dtype"])

    def run():
        interpreter.set_tensor(inputs["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return run
