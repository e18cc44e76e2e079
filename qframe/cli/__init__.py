"""The command ``qframe``: look at plugins and models, and try the framework out.

Nothing here imports a backend before a command needs one.
"""

from __future__ import annotations

from qframe.cli import components, models
from qframe.cli.app import main

__all__ = ["main"]

for _command in (
    models.quickstart,
    models.summary,
    components.list_,
    components.show,
    components.plugins,
):
    main.add_command(_command)
