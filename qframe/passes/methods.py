"""The methods of a pass, chosen by name with options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.errors import ArgumentError, did_you_mean


def method_of(
    owner: str, methods: Mapping[str, Any], name: str, options: Mapping[str, Any]
) -> Any:
    """Make a method from its options.

    Args:
        owner: the function that takes the method, for errors.
        methods: the classes of the methods, of `attrs`, by name.
        name: the name of the method.
        options: its arguments.

    Raises:
        ArgumentError: there is no such method or option, or an option is wrong.
    """
    if name not in methods:
        raise ArgumentError(
            f"{owner} has no method {name!r}."
            + did_you_mean(str(name), methods)
            + f" It has: {', '.join(methods)}."
        )
    cls = methods[name]
    known = [field.name for field in attrs.fields(cls)]
    for option in options:
        if option not in known:
            raise ArgumentError(
                f"the method {name!r} has no option {option!r}; it has "
                f"{', '.join(known) or 'none'}."
            )
    return cls(**options)
