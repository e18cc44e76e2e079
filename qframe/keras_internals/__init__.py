"""Every use of private Keras, in one place; a contract test runs it on each Keras."""

from keras.src.backend import Variable
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell
from keras.src.utils.naming import auto_name

from qframe.keras_internals.archives import (
    from_bytes,
    reduce,
    to_bytes,
)
from qframe.keras_internals.calls import (
    as_it_is,
    before_arguments,
    in_training,
    is_library,
    latent_value,
    takes_training,
    training_restored,
    variables_read,
)
from qframe.keras_internals.interception import intercept_calls, loops
from qframe.keras_internals.structure import (
    all_layers,
    build_shapes,
    graph_of,
    nodes,
    own_weights,
    put_last,
    runs_keras,
    saves_each_layer,
    strategy_of,
    sublayers,
    unlocked,
    untrack,
)
from qframe.keras_internals.training import (
    kept_on_jax,
    make_function,
    models_alive,
    predicting_with,
    steps_of,
    take_state_back,
    traced_functions,
    tracing_models,
    trained_by,
)

__all__ = [
    "ConvLSTMCell",
    "Variable",
    "all_layers",
    "as_it_is",
    "auto_name",
    "before_arguments",
    "build_shapes",
    "from_bytes",
    "graph_of",
    "in_training",
    "intercept_calls",
    "is_library",
    "kept_on_jax",
    "latent_value",
    "loops",
    "make_function",
    "models_alive",
    "nodes",
    "own_weights",
    "predicting_with",
    "put_last",
    "reduce",
    "runs_keras",
    "saves_each_layer",
    "steps_of",
    "strategy_of",
    "sublayers",
    "take_state_back",
    "takes_training",
    "to_bytes",
    "traced_functions",
    "tracing_models",
    "trained_by",
    "training_restored",
    "unlocked",
    "untrack",
    "variables_read",
]
