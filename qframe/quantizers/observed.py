"""Calls of quantizers that pass through an observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MARK = "_qframe_of_observer"


def observed_call(
    observer: Any, quantizer: Any, call: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Pass a call of a quantizer through an observer, and mark errors of the observer."""
    errors_of_call = set()

    def recorded(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            errors_of_call.add(id(error))
            raise

    try:
        return observer.on_quantizer(quantizer, recorded, *args, **kwargs)
    except Exception as error:
        if id(error) not in errors_of_call:
            setattr(error, _MARK, True)
        raise


def is_of_observer(error: Exception) -> bool:
    """Return whether an observer raised an error, not the quantizer that it observed."""
    return hasattr(error, _MARK)
