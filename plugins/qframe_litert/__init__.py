"""LiteRT files (.tflite) of integer models: their exporter and their runtime."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, exporter
from qframe.registry.hookspecs import hookimpl


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield exporter(
        "litert",
        "qframe_litert.exporting:LiteRTExporter",
        suffix=".tflite",
        runtime="qframe_litert.runtime",
        summary="integers only, for phones and microcontrollers; no TensorFlow",
    )
