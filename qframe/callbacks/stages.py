"""Callbacks that start, change or freeze quantization in the course of training."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras

from qframe import context, keras_internals
from qframe.callbacks.steps import Step, change_step, end_changes
from qframe.errors import ArgumentError
from qframe.layers.attachment import replace
from qframe.layers.float_scope import idle, quantized_layers
from qframe.layers.quantized import Quantized
from qframe.layers.traces import changing
from qframe.layers.tree import iter_slots
from qframe.passes import quantize
from qframe.passes.planning import make_plan
from qframe.passes.validation import learns
from qframe.quantizers import Quantizer
from qframe.validation import boolean, integer_within

_MOST = 10**9


class _Stage(keras.callbacks.Callback):
    """A change of the training step that depends on the epoch."""

    _is_active = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._is_active = False
        self._check(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        due = self._is_due(epoch)
        if due != self._is_active:
            change = functools.partial(self._changed, self.model)
            change_step(self.model, self, change if due else None)
            self._is_active = due

    def on_train_end(self, logs: Any = None) -> None:
        end_changes(self.model)

    def _check(self, model: Any) -> None:
        """Raise where the model has nothing to change."""
        raise NotImplementedError

    def _is_due(self, epoch: int) -> bool:
        raise NotImplementedError

    def _changed(self, model: Any, step: Step) -> Step:
        raise NotImplementedError


class QuantizerDelay(_Stage):
    """Trains in float for some epochs before quantization starts.

    Only the training steps are in float. Validation, `predict` and files use the quantized
    model from the start, and a training that stops or fails changes nothing else. Epochs
    count from 0, as in ``fit(initial_epoch=...)``, so that resumed training does not start
    over.

    Args:
        epochs: the number of epochs in float.
        activations: whether the quantizers of inputs and outputs wait too. Default True.

    Raises:
        ArgumentError: an argument is wrong; when training begins, the model has no
            quantized layer.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> dense = qf.layers.QuantDense(1, kernel_quantizer="dorefa(mode='weights')")
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> callbacks = [qf.callbacks.QuantizerDelay(2)]
        >>> history = model.fit(x, y, epochs=3, callbacks=callbacks, verbose=0)
    """

    def __init__(self, epochs: int, activations: bool = True) -> None:
        super().__init__()
        self.epochs = integer_within("QuantizerDelay", "epochs", epochs, 1, _MOST)
        self.activations = boolean("QuantizerDelay", "activations", activations)

    def _check(self, model: Any) -> None:
        quantized_layers(model)

    def _is_due(self, epoch: int) -> bool:
        return epoch < self.epochs

    def _changed(self, model: Any, step: Step) -> Step:
        layers = quantized_layers(model)

        def floating(*args: Any) -> Any:
            with idle(layers, self.activations), warnings.catch_warnings():
                # The variables of a quantizer have no gradient while it waits.
                warnings.filterwarnings("ignore", "Gradients do not exist")
                return step(*args)

        return floating


class FreezeQuantizers(_Stage):
    """Freezes the state of quantizers from an epoch on, while the weights train on.

    Gathered ranges, learned steps and all other variables of quantizers keep, to the bit,
    their values at the start of that epoch. This applies to one `fit`; the next one needs
    the callback again.

    Args:
        epoch: the first epoch with frozen quantizers, from 0.

    Raises:
        ArgumentError: `epoch` is not such a number; when training begins, the model has no
            quantizer with a state.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> dense = qf.layers.QuantDense(1, input_quantizer="lsq")
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> callbacks = [qf.callbacks.FreezeQuantizers(epoch=2)]
        >>> history = model.fit(x, y, epochs=3, callbacks=callbacks, verbose=0)
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = integer_within("FreezeQuantizers", "epoch", epoch, 0, _MOST)

    def _check(self, model: Any) -> None:
        if not _states(model):
            raise ArgumentError(
                f"{model.name!r} has no quantizer with a state to freeze, such as a "
                "gathered range or a learned step."
            )

    def _is_due(self, epoch: int) -> bool:
        return epoch >= self.epoch

    def _changed(self, model: Any, step: Step) -> Step:
        variables = _states(model)

        def frozen(*args: Any) -> Any:
            with context.scoped(frozen=True):
                if len(args) == 2:  # on JAX, where a step is from state to state
                    logs, after = step(*args)
                    return logs, _kept(model, variables, args[0], after)
                before = [keras_internals.latent_value(v) for v in variables]
                logs = step(*args)
                for variable, value in zip(variables, before, strict=True):
                    variable.assign(value)
                return logs

        return frozen


def _states(model: Any) -> list[Any]:
    """Return the variables of all quantizers, without seeds of random numbers."""
    states: dict[int, Any] = {}
    for slot in iter_slots(model):
        if isinstance(slot.quantizer, Quantizer):
            states |= {id(v): v for v in slot.quantizer.weights}
    return list(states.values())


def _kept(model: Any, variables: list[Any], before: Any, after: Any) -> tuple[Any, ...]:
    """Return the state after a step on JAX, with some variables as before it."""
    kept = {id(v) for v in variables}
    lists = (model.trainable_variables, model.non_trainable_variables)
    result = [
        [old if id(v) in kept else new for v, old, new in zip(each, *values, strict=True)]
        for each, *values in zip(lists, before[:2], after[:2], strict=True)
    ]
    return (*result, *after[2:])


class BitwidthSchedule(keras.callbacks.Callback):
    """Quantizes to fewer bits from stage to stage.

    Each stage quantizes the model in place, as `qframe.quantize` does. Validation and files
    use the quantizers of that stage. Where training stops or fails, the model stays at its
    current stage. Epochs count from 0, as in ``fit(initial_epoch=...)``. Before the first
    stage the model does not change.

    Args:
        stages: the bits of each stage, or None for float, by its first epoch.
        rules: a function from bits to rules of `qframe.quantize`.

    Raises:
        ArgumentError: the stages are not such a dict. When training begins: the rules of a
            stage are wrong, or one of its quantizers has variables that learn, which the
            optimizer would not know.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> schedule = qf.callbacks.BitwidthSchedule(
        ...     {0: None, 1: 8, 2: 4},
        ...     lambda bits: {"kernel_quantizer": f"dorefa(k_bit={bits}, mode='weights')"},
        ... )
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> history = model.fit(x, y, epochs=3, callbacks=[schedule], verbose=0)
        >>> model.layers[0].quantizers["kernel"]
        kbit:dorefa(k_bit=4, mode='weights')
    """

    def __init__(
        self, stages: Mapping[int, int | None], rules: Callable[[int], Any]
    ) -> None:
        super().__init__()
        owner = "BitwidthSchedule"
        usage = f"Write for example {owner}({{0: None, 2: 8, 4: 4}}, rules)."
        if not isinstance(stages, Mapping) or set(stages.values()) <= {None}:
            raise ArgumentError(
                f"stages of {owner} must be a dict from epochs to bits, found {stages!r}. "
                + usage
            )
        if not callable(rules):
            raise ArgumentError(
                f"rules of {owner} must be a function of the bits, found {rules!r}. Write "
                "for example lambda bits: {'kernel_quantizer': f'integer(bits={bits})'}."
            )
        self.stages = {
            integer_within(owner, "an epoch", epoch, 0, _MOST): bits
            if bits is None
            else integer_within(owner, "the bits of a stage", bits, 1, 32)
            for epoch, bits in sorted(stages.items())
        }
        self.rules = rules
        self._stage: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._stage = None
        for epoch, bits in self.stages.items():
            if bits is None:
                continue
            for plan in make_plan(self.model, self.rules(bits), False).layers:
                for key, value in plan.settings.items():
                    if learns(value):
                        raise ArgumentError(
                            f"{key}={value!r} of the stage of epoch {epoch} has variables "
                            "that learn, which the optimizer would not know. Quantize "
                            "with it before training, and let it wait: "
                            "qframe.callbacks.QuantizerDelay."
                        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        begun = [start for start in self.stages if start <= epoch]
        if not begun or begun[-1] == self._stage:
            return
        bits = self.stages[begun[-1]]
        if bits is None:
            self._to_float()
        else:
            quantize(self.model, self.rules(bits))
        self._stage = begun[-1]

    def _to_float(self) -> None:
        """Clear the slots that the stages fill."""
        filled = {
            id(plan.site.layer): plan.site.layer
            for bits in {bits for bits in self.stages.values() if bits is not None}
            for plan in make_plan(self.model, self.rules(bits), False).layers
            if plan.settings and isinstance(plan.site.layer, Quantized)
        }
        with changing(filled.values()):
            for layer in filled.values():
                replace(layer, {})
