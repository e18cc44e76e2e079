"""The command ``qframe``: quantize and inspect models, list plugins, run an example.

A backend is imported only when a command needs one.
"""

from __future__ import annotations

from qframe.cli import (
    bit_widths,
    calibration,
    completion,
    components,
    doctor,
    equalization,
    export,
    folding,
    models,
    quantization,
    reports,
    rounding,
    verification,
)
from qframe.cli.app import main

__all__ = ["main"]

for _command in (
    models.quickstart,
    models.summary,
    quantization.plan,
    folding.fold,
    equalization.equalize,
    quantization.quantize,
    calibration.calibrate,
    rounding.round_,
    bit_widths.sensitivity,
    bit_widths.allocate,
    export.export,
    verification.verify,
    reports.report,
    reports.compare,
    components.list_,
    components.show,
    components.plugins,
    doctor.doctor,
    completion.completion,
):
    main.add_command(_command)
