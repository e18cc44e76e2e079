"""The command ``qframe``: quantize models, look at them and at plugins, try it all out.

Nothing here imports a backend before a command needs one.
"""

from __future__ import annotations

from qframe.cli import components, export, models, quantization
from qframe.cli.app import main

__all__ = ["main"]

for _command in (
    models.quickstart,
    models.summary,
    quantization.plan,
    quantization.quantize,
    export.export,
    components.list_,
    components.show,
    components.plugins,
):
    main.add_command(_command)
