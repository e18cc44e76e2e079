"""Generator of ``qframe/layers/__init__.pyi``, for editors and type checkers.

Run ``python -m qframe.layers.stubs`` after a change of the adapters or of Keras.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from qframe import layers
from qframe.layers.adapters import EXPLICIT
from qframe.layers.generation import quantized_class

PATH = Path(__file__).with_name("__init__.pyi")

_HEADER = """\
# Written by `python -m qframe.layers.stubs`.
from typing import Any

import keras

from qframe.layers.adapters import Adapter as Adapter
from qframe.layers.adapters import Weight as Weight
from qframe.layers.adapters import adapter_of as adapter_of
from qframe.layers.quantized import Quantized as Quantized
from qframe.layers.slots import quantizer_of as quantizer_of
"""


def text() -> str:
    """The text of the stub file."""
    classes = [quantized_class(*item) for item in EXPLICIT.items()]
    names = [name for name in layers.__all__ if not name.startswith("Quant")]
    names += ["Quantized", *(cls.__qualname__ for cls in classes)]
    listed = "".join(f'    "{name}",\n' for name in sorted(names))
    return "\n".join([_HEADER, f"__all__ = [\n{listed}]\n", *map(_class, classes)])


def _class(cls: Any) -> str:
    lines = [f"class {cls.__qualname__}(Quantized, keras.layers.{cls.__name__}):"]
    lines += ["    def __init__(", "        self,"]
    keyword_only = False
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            lines.append("        *,")
        lines.append(f"        {_parameter(parameter)},")
    return "\n".join([*lines, "    ) -> None: ...", ""])


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return f"**{parameter.name}: Any"
    # Any, so that layers can share their arguments as `**dict(...)` of mixed values.
    if parameter.default is parameter.empty:
        return f"{parameter.name}: Any"
    default = repr(parameter.default).replace("'", '"')
    return f"{parameter.name}: Any = {default}"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
