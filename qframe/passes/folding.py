"""Fold batch normalizations into the layers of products before them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import attrs
import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, NotBuiltError, QFrameError
from qframe.layers.attachment import float_class_of
from qframe.layers.substitution import latent
from qframe.layers.traces import changing
from qframe.layers.tree import sites
from qframe.passes.calls import Calls
from qframe.passes.pairs import Pair, pair_of
from qframe.passes.proofs import remark_on_training
from qframe.passes.report import Report, Row
from qframe.passes.restarting import built_optimizers
from qframe.passes.weights import write


@attrs.frozen
class Folding(Report):
    """The batch normalizations of a model, and the layers that they were folded into."""

    column: ClassVar[str] = "Folded"
    done: ClassVar[str] = "batch normalizations folded"

    @property
    def folded(self) -> tuple[Row, ...]:
        """The batch normalizations that were folded."""
        return self.quantized


def fold_batchnorm(model: Any) -> Folding:
    """Fold batch normalizations into the layers before them, in place.

    The kernel and the bias of a layer of products become, for each output channel,

        kernel' = kernel * gamma / sqrt(variance + epsilon)
        bias'   = beta + (bias - mean) * gamma / sqrt(variance + epsilon)

    in float64, and the batch normalization a `keras.layers.Identity`. A layer without a
    bias gets one. In inference the model computes the same function; it remains a plain
    Keras model, which Keras alone saves and loads. Training no longer normalizes.

    Fold first, then call `qframe.quantize` and `qframe.calibrate`: what is rounded is then
    what a runtime multiplies with.

    Args:
        model: a built `keras.Model` without quantizers on the layers concerned. Its dense
            layers and convolutions of any kind, `EinsumDense` included, are layers of
            products. A subclassed model is searched for functional and sequential models
            in it, which its code must not call with ``training=True`` in inference.

    Returns:
        Each batch normalization, with the layer that it was folded into or the reason why
        it was left as it was: it reads something else than a layer of products, or an
        activation; the output of that layer is read by others too; a layer is called by
        code, which may do anything; a layer is quantized, or of a class that overrides
        its call; the axis is not that of the channels; the numbers do not fit. The notes
        name optimizers that start again, and models that Keras cannot load again.

    Raises:
        ArgumentError: no batch normalization of the model can be folded.
        NotBuiltError: a batch normalization is not built yet. Nothing was changed then.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> dense = keras.layers.Dense(4, use_bias=False)
        >>> normalize = keras.layers.BatchNormalization()
        >>> model = keras.Sequential([keras.Input((3,)), dense, normalize])
        >>> x = np.random.default_rng(0).normal(size=(5, 3))
        >>> before = model.predict(x, verbose=0)
        >>> len(qf.fold_batchnorm(model).folded)
        1
        >>> np.allclose(model.predict(x, verbose=0), before, atol=1e-5)
        True
        >>> type(normalize) is keras.layers.Identity, dense.use_bias
        (True, True)

    Paper: Jacob et al., 2017, https://arxiv.org/abs/1712.05877, section 3.2
    """
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"fold_batchnorm takes a keras.Model, found {model!r}.")
    calls = Calls(model)
    pairs, rows = _plan(model, calls)
    if not pairs:
        text = " ".join(f"{row.path!r}: {row.reason}." for row in rows)
        raise ArgumentError(
            f"no batch normalization of {model.name!r} can be folded. {text}"
            if rows
            else f"{model.name!r} has no keras.layers.BatchNormalization to fold."
        )
    with keras_internals.strategy_scope(model):
        layers = [layer for pair in pairs for layer in (pair.norm, pair.product)]
        optimizers = built_optimizers(layers)
        _apply(pairs, calls, optimizers)
    notes = [*_unsaved(pairs, calls), *(each.note() for each in optimizers)]
    return Folding(f"{model.name} folded", tuple(rows), tuple(notes))


def _plan(model: Any, calls: Calls) -> tuple[list[Pair], list[Row]]:
    """The batch normalizations to fold, and a row for each."""
    all_sites = list(sites(model))
    paths = {id(site.layer): site.path for site in all_sites}
    pairs, rows = [], []
    for site in all_sites:
        if not isinstance(site.layer, keras.layers.BatchNormalization):
            continue
        row = Row(site.path, float_class_of(site.layer).__name__)
        try:
            pair = pair_of(site, calls)
        except NotBuiltError:
            raise
        except QFrameError as error:
            rows.append(attrs.evolve(row, reason=str(error)))
            continue
        pairs.append(pair)
        settings = {"folded_into": paths.get(id(pair.product), pair.product.name)}
        if pair.adds_bias:
            settings["bias"] = "added"
        rows.append(
            attrs.evolve(
                row, settings=settings, reason=remark_on_training(pair.product, "folded")
            )
        )
    return pairs, rows


def _unsaved(pairs: Iterable[Pair], calls: Calls) -> Iterator[str]:
    """Name the classes around a pair whose own code makes its layers again."""
    seen = {}
    for pair in pairs:
        for container in calls.containers(pair.norm):
            cls = float_class_of(container)
            saves = keras_internals.saves_each_layer(container)
            if not saves and not keras_internals.is_of_keras(cls):
                seen[container.name] = cls.__name__
    for name, kind in seen.items():
        yield (
            f"Keras loads {name!r} by the code of {kind}, which makes the batch "
            "normalization again, so a saved file does not fit it: change that code too, "
            "or export the model."
        )


def _apply(pairs: Sequence[Pair], calls: Calls, optimizers: Sequence[Any]) -> None:
    layers = [layer for pair in pairs for layer in (pair.norm, pair.product)]
    with changing(layers):
        with contextlib.ExitStack() as undo:
            for pair in pairs:
                _fold(pair, undo)
            for optimizer in optimizers:
                optimizer.restart(undo)
            undo.pop_all()
        for layer in calls.layers.values():
            keras_internals.update_parameters(layer)


def _fold(pair: Pair, undo: contextlib.ExitStack) -> None:
    product, folded = pair.product, pair.folded
    argument = "use_bias" if folded.bias_axes is None else "bias_axes"
    if pair.adds_bias:
        undo.callback(setattr, product, argument, getattr(product, argument))
        setattr(product, argument, folded.bias_axes or True)
        keras_internals.add_bias(product, folded.bias_values.shape, folded.kernel)
        undo.callback(keras_internals.remove_bias, product)
    write(folded.kernel, folded.kernel_values, undo)
    write(latent(product, "bias"), folded.bias_values, undo)
    undo.callback(keras_internals.become_identity(pair.norm))
