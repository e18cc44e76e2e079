"""Packed files, which need no Keras: their exporter and their runtime."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, exporter
from qframe.registry.hookspecs import hookimpl


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield exporter(
        "packed",
        "qframe_packed.exporting:PackedExporter",
        suffix=".safetensors",
        runtime="qframe_packed.runtime",
        summary="weights in bits and batch norm as thresholds; runs without Keras",
    )
