"""All uses of private Keras, which a contract test runs on each version."""

from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.backend import Variable
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell
from keras.src.utils.naming import auto_name

from qframe.keras_internals.archives import from_bytes, reduce, to_bytes
from qframe.keras_internals.batches import batches, flat_inputs
from qframe.keras_internals.calls import (
    in_training,
    is_library,
    latent_value,
    original_error,
    takes_training,
    training_restored,
    variables_read,
    without_call_details,
)
from qframe.keras_internals.interception import calls_observed, has_loop
from qframe.keras_internals.structure import (
    all_layers,
    build_shapes,
    direct_weights,
    graph_of,
    input_count,
    input_shape,
    is_input,
    nodes,
    operation_name,
    put_last,
    runs_keras,
    saves_each_layer,
    strategy_of,
    sublayers,
    tensors_of_input,
    unlocked,
    untrack,
)
from qframe.keras_internals.training import (
    make_function,
    models_alive,
    predicting_with,
    restored_on_failure,
    steps_of,
    sync_state,
    traced_functions,
    tracing_models,
    trained_variables,
)

__all__ = [
    "ConvLSTMCell",
    "CustomScaleLayer",
    "LayerScale",
    "StochasticDepth",
    "Variable",
    "all_layers",
    "auto_name",
    "batches",
    "build_shapes",
    "calls_observed",
    "direct_weights",
    "flat_inputs",
    "from_bytes",
    "graph_of",
    "has_loop",
    "in_training",
    "input_count",
    "input_shape",
    "is_input",
    "is_library",
    "latent_value",
    "make_function",
    "models_alive",
    "nodes",
    "operation_name",
    "original_error",
    "predicting_with",
    "put_last",
    "reduce",
    "restored_on_failure",
    "runs_keras",
    "saves_each_layer",
    "steps_of",
    "strategy_of",
    "sublayers",
    "sync_state",
    "takes_training",
    "tensors_of_input",
    "to_bytes",
    "traced_functions",
    "tracing_models",
    "trained_variables",
    "training_restored",
    "unlocked",
    "untrack",
    "variables_read",
    "without_call_details",
]
