"""The errors and warnings of qframe.

Every message has three parts: the request, the finding, and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class QFrameError(ValueError):
    """Base of all errors that qframe raises on purpose."""


class IdentifierError(QFrameError):
    """A string that is not an identifier such as ``"ste_sign(clip_value=1.0)"``."""


class UnknownNameError(QFrameError):
    """A name that no installed plugin offers."""


class AmbiguousNameError(QFrameError):
    """A bare name that several plugins offer."""


class PluginError(QFrameError):
    """A plugin that cannot be loaded, or a manifest that is wrong."""


class ArgumentError(QFrameError):
    """An argument of the wrong type, name or value."""


class CallError(ArgumentError, TypeError):
    """A call that a function does not take: an unknown or missing argument."""


class NotBuiltError(QFrameError):
    """A model or layer that has no weights yet."""


class DataError(QFrameError):
    """A data file that is missing or has other contents than requested."""


class ExportError(QFrameError):
    """A part of a model that the target of an export cannot represent."""


class VerificationError(QFrameError):
    """A file that agrees less with its model than requested."""


class OutputError(QFrameError):
    """A path that is not writable or is already taken."""


class StarvedWeightsWarning(UserWarning):
    """Latent weights may leave the support of their surrogate gradient forever."""


class UnknownPluginWarning(UserWarning):
    """A variable such as QFRAME_DISABLE_PLUGINS names a plugin that is not installed."""


class ConstantActivationsWarning(UserWarning):
    """A quantizer maps all outputs of the layer before it to one value."""


class UnprunedWeightsWarning(UserWarning):
    """A quantizer maps the zeros of a pruned weight to other values."""


class IdleOptimizerWarning(UserWarning):
    """An optimizer among several has no variable to train."""


class FloatLayersWarning(UserWarning):
    """An exported file of integers computes some layers in float32."""


class RoundedBiasesWarning(UserWarning):
    """An exported file rounds biases, which the model has as floats, by too much."""


class LargeFileWarning(UserWarning):
    """An exported file takes more than the float weights of the model."""


def shown(value: Any) -> str:
    """A value as errors quote it: at most 200 characters, and never an error itself."""
    try:
        text = repr(value)
    # Python prints no integer of more than 4300 digits, and a foreign class may raise.
    except Exception:
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def brief(error: Exception) -> str:
    """The message of an error in one line; Keras quotes whole arrays in some."""
    text = " ".join(str(error).split())
    return text.rstrip(".") if len(text) <= 200 else f"{text[:200]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known names, or an empty string."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(by_folded[c]) for c in close)}?"
