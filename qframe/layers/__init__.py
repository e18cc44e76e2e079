"""Keras layers with slots for quantizers, one for each adapter.

``QuantDense`` is ``keras.layers.Dense`` with ``input_quantizer``, ``kernel_quantizer``,
``bias_quantizer`` and ``output_quantizer``; the others follow the same pattern.
"""

from __future__ import annotations

from typing import Any

import keras

from qframe.layers import (
    composite,  # noqa: F401  (registers with Keras)
    initializers,  # noqa: F401  (so does this)
)
from qframe.layers.adapters import EXPLICIT, Adapter, Weight, adapter_of
from qframe.layers.generation import quantized_class
from qframe.layers.quantized import Quantized
from qframe.layers.slots import quantizer_of

__all__ = ["Adapter", "Quantized", "Weight", "adapter_of", "quantizer_of"]

for _base, _adapter in EXPLICIT.items():
    _class: Any = quantized_class(_base, _adapter)
    globals()[_class.__qualname__] = keras.saving.register_keras_serializable(
        "qframe", _class.__qualname__
    )(_class)
    __all__.append(_class.__qualname__)
