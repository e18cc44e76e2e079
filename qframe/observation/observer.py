"""The base of all observers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from qframe import context, keras_internals
from qframe.layers.attachment import Recurrent

Call = Callable[..., Any]


class Observer:
    """Hooks around the calls of layers and quantizers in `run`; by default they do nothing.

    A subclass overrides `on_layer` and `on_quantizer`. Each gets a call and its arguments,
    and returns the outputs to go on with; tensors that are to leave the step go to `note`.
    Each step has a copy of the observer, with its own notes: replicas run in threads.

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

    # Along which the notes of several calls in one step are joined.
    axis = 0

    def begin(self, model: Any, args: tuple[Any, ...]) -> None:
        """Prepare this copy for a step of `predict` with its arguments."""
        self._notes: dict[str, list[tuple[Any, ...]]] = {}

    def on_layer(self, layer: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        """The outputs of a layer; `call` takes the arguments and computes them.

        Args:
            layer: a layer or model, built.
            call: its call. The arguments are those of its method ``call``.
            *args: the inputs.
            **kwargs: others, such as ``training`` and ``mask``.
        """
        return call(*args, **kwargs)

    def on_quantizer(
        self, quantizer: Any, call: Call, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """The values of a quantizer, in a slot or in a graph; `inputs` are floats."""
        return call(inputs, *args, **kwargs)

    def in_loop(self) -> Observer:
        """The observer in a loop over time, which no tensor can leave."""
        return Observer()

    def note(self, key: str, *tensors: Any) -> None:
        """Keep tensors for `run` to return, with an axis of examples first."""
        self._notes.setdefault(key, []).append(tensors)

    def notes(self) -> dict[str, list[Any]]:
        """The notes of a step, those of several calls joined."""
        return {
            key: [ops.concatenate(parts, self.axis) for parts in zip(*calls, strict=True)]
            for key, calls in self._notes.items()
        }

    def layer_called(self, layer: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        """Pass a call of a layer through `on_layer`."""
        # A quantized recurrent layer enters its loop by itself, after its input quantizer.
        if isinstance(layer, Recurrent) or not keras_internals.loops(
            layer, *args, **kwargs
        ):
            return self.on_layer(layer, call, *args, **kwargs)

        def looped(*args: Any, **kwargs: Any) -> Any:
            with context.scoped(observer=self.in_loop()):
                return call(*args, **kwargs)

        return self.on_layer(layer, looped, *args, **kwargs)
