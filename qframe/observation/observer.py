"""The base class of observers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from qframe import context, keras_internals
from qframe.layers.attachment import Recurrent

Call = Callable[..., Any]


class Observer:
    """Hooks around the calls of layers and quantizers in `run`; by default they do nothing.

    A subclass overrides `on_layer` and `on_quantizer`. Each takes a call and its arguments,
    and returns the outputs for the rest of the step. `note` passes tensors out of the step.
    Replicas run in threads, so each step has a copy of the observer, with separate notes.

    Example:
        >>> import keras, numpy as np
        >>> from qframe import observation
        >>> class Inputs(observation.Observer):
        ...     def on_layer(self, layer, call, inputs, *args, **kwargs):
        ...         if isinstance(layer, keras.layers.Dense):
        ...             self.note(layer.name, keras.ops.mean(inputs, axis=1))
        ...         return call(inputs, *args, **kwargs)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="d")])
        >>> data = np.array([[1.0, 3.0], [5.0, 7.0]])
        >>> observation.run(model, data, Inputs(), verbose=0)["d"][0].tolist()
        [2.0, 6.0]
    """

    # The axis along which the notes of several calls in one step are joined.
    axis = 0

    # Models and layers outside of the model whose calls are observed too.
    others: Sequence[Any] = ()

    def begin(self, model: Any, args: tuple[Any, ...]) -> None:
        """Prepare this copy for a step of `predict` with its arguments."""
        self._notes: dict[str, list[tuple[Any, ...]]] = {}

    def on_layer(self, layer: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        """The outputs of a layer, which `call` computes from the arguments.

        Args:
            layer: a layer or model, built.
            call: its call, with the arguments of its method ``call``.
            *args: the inputs.
            **kwargs: further arguments, such as ``training`` and ``mask``.
        """
        return call(*args, **kwargs)

    def on_quantizer(
        self, quantizer: Any, call: Call, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """The values of a quantizer, in a slot or in a graph; `inputs` are floats."""
        return call(inputs, *args, **kwargs)

    def in_loop(self) -> Observer:
        """The observer within a loop over time, which confines tensors."""
        return Observer()

    def note(self, key: str, *tensors: Any) -> None:
        """Add tensors to the result of `run`; their first axis is that of examples."""
        self._notes.setdefault(key, []).append(tensors)

    def notes(self) -> dict[str, list[Any]]:
        """The notes of a step, joined over its calls."""
        return {
            key: [ops.concatenate(parts, self.axis) for parts in zip(*calls, strict=True)]
            for key, calls in self._notes.items()
        }

    def layer_called(self, layer: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        """Pass a call of a layer through `on_layer`."""
        # A quantized recurrent layer calls its input quantizer before its loop begins.
        has_loop = keras_internals.has_loop(layer, *args, **kwargs)
        if isinstance(layer, Recurrent) or not has_loop:
            return self.on_layer(layer, call, *args, **kwargs)

        def looped(*args: Any, **kwargs: Any) -> Any:
            with context.scoped(observer=self.in_loop()):
                return call(*args, **kwargs)

        return self.on_layer(layer, looped, *args, **kwargs)
