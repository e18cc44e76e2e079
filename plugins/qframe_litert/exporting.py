"""The exporter of LiteRT files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from qframe.errors import (
    ArgumentError,
    FloatLayersWarning,
    PluginError,
    RoundedBiasesWarning,
)
from qframe.validation import integer_within, one_of

if TYPE_CHECKING:
    from qframe.deployment.graph.graph import Graph

# In steps of the result: one number in so many, at most, becomes another integer.
_LEAST_MOVED = 0.02


@attrs.frozen
class LiteRTExporter:
    """Write a model as integers, or mixed, for LiteRT, formerly TensorFlow Lite.

    Args:
        activations: the bits of activations, 8 or 16. Default 8.
        weights: how weights are stored, ``"int8"``, or ``"int4"`` for those of up to 4
            bits. Default ``"int8"``.
        batch: the number of samples, or None for any. Default None.
        inputs: ``"integer"``, or ``"float"`` for a file that quantizes its inputs. Default
            ``"integer"``.
        outputs: ``"integer"``, or ``"float"`` for a file that returns real numbers. Default
            ``"integer"``.
        floats: ``"refuse"``, or ``"keep"`` for mixed models: what has no quantizers is
            computed in float32. Default ``"refuse"``.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> qf.export(model, "m.tflite", target="litert")  # doctest: +SKIP
    """

    activations: int = attrs.field(default=8)
    weights: str = attrs.field(default="int8")
    batch: int | None = attrs.field(default=None)
    inputs: str = attrs.field(default="integer")
    outputs: str = attrs.field(default="integer")
    floats: str = attrs.field(default="refuse")

    def __attrs_post_init__(self) -> None:
        if type(self.activations) is not int or self.activations not in (8, 16):
            raise ArgumentError(
                f"activations of LiteRTExporter are 8 or 16 bits, found "
                f"{self.activations!r}. Write for example LiteRTExporter(activations=8)."
            )
        one_of("LiteRTExporter", "weights", self.weights, ("int8", "int4"))
        for end in ("inputs", "outputs"):
            choices = ("integer", "float")
            one_of("LiteRTExporter", end, getattr(self, end), choices)
        one_of("LiteRTExporter", "floats", self.floats, ("refuse", "keep"))
        if self.batch is not None:
            integer_within("LiteRTExporter", "batch", self.batch, 1, 2**16)

    def __call__(self, model: Any, path: Path) -> None:
        """Write the file; raises `ExportError` first for an unsupported layer.

        Warns with a `FloatLayersWarning` of the layers that the file computes in float32.
        """
        try:
            from qframe_litert.flatbuffer import encode
        except ImportError as error:
            raise PluginError(
                f"the target 'litert' needs packages that cannot be imported ({error}). "
                "Write: pip install 'keras-qframe[litert]'"
            ) from error
        from qframe.deployment.graph.checks import recurrent_layers, require_grids
        from qframe.deployment.graph.fusing import fuse
        from qframe.deployment.lowering import ExportTarget, lower
        from qframe_litert.conversion import Conversion
        from qframe_litert.floats import RULES
        from qframe_litert.writer import Settings

        target = ExportTarget("litert", levels=2**16, portable=True)
        graph = fuse(lower(model, target), RULES)
        if self.floats == "refuse":
            require_grids(graph, "litert", "write litert(floats='keep')")
        activations, ends = f"int{self.activations}", (self.inputs, self.outputs)
        settings = Settings(activations, self.weights, self.batch, *ends, self.floats)
        conversion = Conversion(graph, settings)
        path.write_bytes(encode(conversion.model(), "qframe"))
        _warn_of_floats(conversion.float_layers, recurrent_layers(graph))
        _warn_of_biases(graph)


def _warn_of_biases(graph: Graph) -> None:
    """Warn of biases that are integers in the file, and other numbers in the model."""
    moved: dict[str, float] = {}
    for node in graph.nodes:
        part = getattr(node.operation, "moved", 0.0)
        if part > _LEAST_MOVED:
            moved[node.name] = max(part, moved.get(node.name, 0.0))
    if moved:
        most = max(moved.values())
        warnings.warn(
            "the file has the biases of these layers, or those of batch normalization "
            f"behind them, as integers, which moves results by up to {most:.2g} steps: "
            f"{', '.join(map(repr, moved))}. For the same numbers in the model, give them "
            "bias_quantizer='integer_bias', as the recipe 'int8' does.",
            RoundedBiasesWarning,
            stacklevel=2,
        )


def _warn_of_floats(paths: list[str], loops: list[str]) -> None:
    """Warn of the layers in float32; those with a loop have no integers."""
    if paths:
        others = f" but {', '.join(map(repr, loops))}" if loops else ""
        advice = f" For integers, give each{others} an input_quantizer and an "
        advice += "output_quantizer; floats='refuse' makes this an error."
        warnings.warn(
            f"the file computes these layers in float32: {', '.join(map(repr, paths))}."
            f"{advice if {*paths} - {*loops} else ''}",
            FloatLayersWarning,
            stacklevel=2,
        )
