"""What is noted of the calls of layers and quantizers while models run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from keras import ops, tree

from qframe.reports.saturation import at_the_ends


class Notes(threading.local):
    """What is noted in this thread; one for each device runs a step.

    `outputs` is by the key of a layer, of each of its calls; `saturation` by that and the
    id of a quantizer; `compared` is what leaves the step.
    """

    def __init__(self) -> None:
        self.outputs: dict[int, list[Any]] = {}
        self.saturation: dict[tuple[int, int], list[Any]] = {}
        self.compared: dict[str, Any] = {}
        # The layers that are being called, the innermost last.
        self._inside: list[int] = []

    def noted(self, run: Callable[[], Any]) -> tuple[Any, dict[int, list[Any]]]:
        """What a run returns, and what the layers in it do."""
        self.outputs = {}
        return run(), self.outputs

    def noting(self, call: Any, key: int) -> Callable[..., Any]:
        """The call of a layer, noted."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(key)
            try:
                outputs = call(*args, **kwargs)
            finally:
                self._inside.pop()
            tensor = first_tensor(outputs)
            if getattr(tensor, "shape", ()):  # one that has a batch
                self.outputs.setdefault(key, []).append(tensor)
            return outputs

        return noted

    def counting(self, quantizer: Any) -> Callable[..., Any]:
        """The call of a quantizer, which several layers may share, counted."""
        call = quantizer.call

        def counted(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            values = call(inputs, *args, **kwargs)
            axis = kwargs.get("channel_axis", -1)
            ends = ops.cast(at_the_ends(quantizer, inputs, values, axis), "float32")
            part = ops.mean(ops.reshape(ends, (ops.shape(ends)[0], -1)), axis=1)
            for key in self._inside[-1:]:
                self.saturation.setdefault((key, id(quantizer)), []).append(part)
            return values

        return counted


def first_tensor(outputs: Any) -> Any:
    """The first of all tensors in a structure; None where there is none."""
    return next(iter(tree.flatten(outputs)), None)
