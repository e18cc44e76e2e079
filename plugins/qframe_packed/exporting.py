"""The exporter: from a Keras model to a packed file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from qframe.arguments import one_of
from qframe_packed.files import encode
from qframe_packed.rewriting import lowered


@attrs.frozen
class Packed:
    """Writes a model for ``qframe.packed.load``.

    Quantized weights take the bits that their integers need, all others float32. Batch
    norm before a quantizer becomes thresholds.

    Args:
        floats: how kernels that are not quantized are stored, ``"float32"`` or
            ``"float16"``. Default ``"float32"``.

    Raises:
        ArgumentError: `floats` is something else.

    Example:
        >>> import qframe as qf
        >>> target = "packed(floats='float16')"
        >>> qf.export(model, "m.safetensors", target=target)  # doctest: +SKIP
    """

    floats: str = attrs.field(default="float32")

    def __attrs_post_init__(self) -> None:
        one_of("Packed", "floats", self.floats, ("float32", "float16"))

    def __call__(self, model: Any, path: Path) -> None:
        """Write the file; raises `ExportError` before that for what has no place in it."""
        from qframe_packed.layers import lowering_of
        from qframe_packed.tracing import traced

        graph = traced(model, lowering_of, self.floats)
        path.write_bytes(encode(lowered(graph)))
