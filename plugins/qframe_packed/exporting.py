"""The exporter: from a Keras model to a packed file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import attrs

from qframe.errors import LargeFileWarning
from qframe.validation import one_of
from qframe_packed.files import encode, tensor_bytes
from qframe_packed.lowering import packed
from qframe_packed.rewriting import lowered

# Below that many bytes no size matters.
_SMALL = 2**14


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
        """Write the file; raises `ExportError` before that for what it cannot have.

        Warns with a `LargeFileWarning` where the weights as float32 are smaller.
        """
        from qframe.deployment.lowering import ExportTarget, lower

        graph = lower(model, ExportTarget("packed", floats=self.floats, levels=2**8))
        content = encode(lowered(packed(graph)))
        path.write_bytes(content)
        _compare(tensor_bytes(content), 4 * model.count_params())


def _compare(size: int, floats: int) -> None:
    """Say that a file is larger than the float weights."""
    if size > max(floats, _SMALL):
        warnings.warn(
            f"the packed file takes {size / 1000:,.0f} kB, and the weights of the model "
            f"take {floats / 1000:,.0f} kB as float32: a quantizer of activations has a "
            "threshold for each level and channel. Quantize activations to fewer bits, or "
            "keep the float model.",
            LargeFileWarning,
            stacklevel=2,
        )
