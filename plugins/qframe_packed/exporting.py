"""The exporter of packed files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import attrs

from qframe.errors import LargeFileWarning
from qframe.validation import one_of
from qframe_packed.files import encode, tensor_bytes
from qframe_packed.lowering import to_packed
from qframe_packed.rewriting import simplify

# Smaller files cause no warning.
_SMALL_BYTES = 2**14


@attrs.frozen
class PackedExporter:
    """Write a model for ``qframe.packed.load``.

    Quantized weights take the bits that their integers need, all others float32. Batch
    norm before a quantizer of 1 or 2 bits becomes thresholds.

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
        one_of("PackedExporter", "floats", self.floats, ("float32", "float16"))

    def __call__(self, model: Any, path: Path) -> None:
        """Write the file; raises `ExportError` first for an unsupported layer.

        Warns with a `LargeFileWarning` if the weights as float32 are smaller.
        """
        from qframe.deployment.lowering import ExportTarget, lower

        graph = lower(model, ExportTarget("packed", floats=self.floats, levels=2**8))
        content = encode(simplify(to_packed(graph)))
        path.write_bytes(content)
        _warn_if_larger(content, 4 * model.count_params())


def _warn_if_larger(content: bytes, floats: int) -> None:
    """Warn of thresholds that make a file larger than the float weights.

    The description of the graph makes a file of float weights larger too, by little.
    """
    if tensor_bytes(content) > max(floats, _SMALL_BYTES):
        warnings.warn(
            f"the packed file takes {len(content) / 1000:,.0f} kB, and the weights of the "
            f"model take {floats / 1000:,.0f} kB as float32: a quantizer that does not "
            "round to the nearest integer, ties to even, has a threshold for each level. "
            "Take one that does, such as 'integer', fewer bits, or the float model.",
            LargeFileWarning,
            stacklevel=2,
        )
