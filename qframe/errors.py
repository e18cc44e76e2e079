"""What can go wrong, by name.

Every message says what was asked, what was found and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class QFrameError(ValueError):
    """Base of all errors that qframe raises on purpose."""


class IdentifierError(QFrameError):
    """A text that is not an identifier such as ``"ste_sign(clip_value=1.0)"``."""


class UnknownNameError(QFrameError):
    """A name that no installed plugin offers."""


class AmbiguousNameError(QFrameError):
    """A bare name that several plugins offer."""


class PluginError(QFrameError):
    """A plugin that cannot be loaded, or a manifest that is wrong."""


class ArgumentError(QFrameError):
    """An argument of the wrong type, name or value."""


class NotBuiltError(QFrameError):
    """A model or layer without weights where weights are needed."""


class DataError(QFrameError):
    """A data file that is missing or holds something else than was asked for."""


class ExportError(QFrameError):
    """Something in a model that the target of an export has no place for."""


class OutputError(QFrameError):
    """A path that cannot be written, or that exists already."""


class StarvedWeightsWarning(UserWarning):
    """Latent weights may leave the support of their surrogate gradient for good."""


class UnknownPluginWarning(UserWarning):
    """A variable such as QFRAME_DISABLE_PLUGINS names a plugin that is not installed."""


class ConstantActivationsWarning(UserWarning):
    """A quantizer makes one value of all that a layer before it returns."""


class UnprunedWeightsWarning(UserWarning):
    """A quantizer makes something else of the zeros of a pruned weight."""


class IdleOptimizerWarning(UserWarning):
    """An optimizer among several has no variable to train."""


class LargeFileWarning(UserWarning):
    """An exported file takes more than the float weights of the model."""


def shown(value: Any) -> str:
    """A value as an error quotes it: cut to 200 characters, and without raising itself."""
    try:
        text = repr(value)
    # Python prints no integer of more than 4300 digits, and a stranger's class may fail.
    except Exception:
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known names, or an empty string."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(by_folded[c]) for c in close)}?"
