"""Callbacks that schedule and monitor the training of quantized models."""

from __future__ import annotations

from qframe.callbacks.checkpoint import ModelCheckpoint
from qframe.callbacks.hyperparameters import HyperparameterScheduler
from qframe.callbacks.logger import QuantizationLogger
from qframe.callbacks.measuring import QuantizationMetrics
from qframe.callbacks.recalibration import RecalibrateBatchNorm
from qframe.callbacks.stages import BitwidthSchedule, FreezeQuantizers, QuantizerDelay

__all__ = [
    "BitwidthSchedule",
    "FreezeQuantizers",
    "HyperparameterScheduler",
    "ModelCheckpoint",
    "QuantizationLogger",
    "QuantizationMetrics",
    "QuantizerDelay",
    "RecalibrateBatchNorm",
]
