"""Weights of networks that Larq trained, from files of Keras 2."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import keras
import numpy as np

from qframe.errors import ArgumentError, DataError, NotBuiltError
from qframe.paths import existing_file
from qframe.tables import Table, Tabular

# Variables that Keras 3 renamed.
_RENAMED = {"depthwise_kernel": "kernel"}
# Variables of Larq's metric FlipRatio in the layer that it measures.
_METRIC_VARIABLES = {"previous_values", "total", "count"}
# The most rows in an error.
_MOST_ROWS = 12


@attrs.frozen(eq=False)
class LayerWeights:
    """The weights of a layer of a file or of a model, by name."""

    layer: str
    weights: tuple[tuple[str, Any], ...]

    @property
    def in_order(self) -> list[tuple[str, Any]]:
        """The weights in an order that is the same in a file and in a model.

        The weights of a layer differ in their names. If it contains other layers, names
        recur, and Keras orders them: trainable ones first.
        """
        names = {name for name, _ in self.weights}
        if len(names) < len(self.weights):
            return list(self.weights)
        return sorted(self.weights, key=lambda weight: weight[0])

    @property
    def signature(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The names and shapes, which must be equal for the weights to fit."""
        return tuple((name, tuple(weight.shape)) for name, weight in self.in_order)

    def __str__(self) -> str:
        shapes = (f"{name} {tuple(weight.shape)}" for name, weight in self.weights)
        return "\n".join([self.layer, *(f"  {text}" for text in shapes)])


@attrs.frozen
class Match(Tabular):
    """The layers of a model, each with the layer of a file that its weights come from.

    Args:
        model: the name of the model.
        file: the path of the file.
        pairs: the layers of the model and of the file, with names and shapes of weights.
    """

    model: str
    file: str
    pairs: tuple[tuple[str, str], ...]

    def tables(self) -> list[Table]:
        """One table, with a row for each pair."""
        title = f"{self.model} from {self.file}"
        footer = [f"{len(self.pairs)} layers loaded", ""]
        return [Table(title, ["Model", "File"], self.pairs, footer)]


def load_larq_weights(model: Any, path: str | os.PathLike[str]) -> Match:
    """Load weights that Larq saved into a model with the same layers.

    The file is what ``model.save_weights("name.h5")`` or ``model.save("name.h5")`` writes
    in Keras 2 (tf-keras), whatever layers the model has. Layers are matched by their order,
    since their names depend on the process, and must agree in the names and shapes of
    their weights. Layers without weights and Larq's metrics do not count. Either all
    weights fit and are loaded, or none is.

    In a model within the model, the same layers must be frozen as when the file was
    written. Larq's quantizers have no variables: quantize with others afterwards.

    Args:
        model: a built Keras model.
        path: a ``.h5`` file.

    Returns:
        The pairs of layers; it prints as a table.

    Raises:
        ArgumentError: `model` is not a Keras model.
        NotBuiltError: it has no weights yet.
        DataError: the file cannot be read, has another format, or does not fit; the
            message lists the layers that do not.

    Example:
        >>> import qframe as qf
        >>> model = qf.zoo.BiRealNet()  # doctest: +SKIP
        >>> qf.load_larq_weights(model, "birealnet_weights.h5")  # doctest: +SKIP
    """
    targets = _entries_of_model(model)
    file = existing_file(path, ".h5")
    sources = _entries_of_file(file)
    if [entry.signature for entry in targets] != [entry.signature for entry in sources]:
        raise DataError(_misfit(model.name, targets, str(file), sources))
    pairs = list(zip(targets, sources, strict=True))
    for target, source in pairs:
        for (_, variable), (_, array) in zip(target.in_order, source.in_order, strict=True):
            variable.assign(array)
    return Match(model.name, str(file), tuple((str(a), str(b)) for a, b in pairs))


def is_legacy(path: Path) -> bool:
    """Return whether a file holds layers as Keras 2 writes them.

    Raises:
        DataError: it cannot be read.
    """
    with _open(path) as file:
        return _layers_of(file) is not None


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py raises these for a file that is cut off or has another structure.
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read as an HDF5 file of weights: {error}. It may be of "
            "another format, or not whole: get it again."
        ) from error


def _layers_of(file: Any) -> Any:
    """The group with the layers, in a file of weights or of a whole model."""
    group = file.get("model_weights", file)
    return group if _names(group, "layer_names") is not None else None


def _names(group: Any, name: str) -> list[str] | None:
    """A list of names, which Keras splits if it is long; None without one."""
    attributes = group.attrs
    if name in attributes:
        parts = [attributes[name]]
    else:
        keys = itertools.takewhile(
            lambda key: key in attributes, (f"{name}{n}" for n in itertools.count())
        )
        parts = [attributes[key] for key in keys]
        if not parts:
            return None
    texts = itertools.chain.from_iterable(parts)
    return [t.decode() if isinstance(t, bytes) else str(t) for t in texts]


def _entries_of_file(path: Path) -> list[LayerWeights]:
    with _open(path) as file:
        layers = _layers_of(file)
        if layers is None:
            raise DataError(
                f"{path} has no layers as Larq and Keras 2 write them with "
                "model.save_weights('name.h5'). What Keras 3 writes as .weights.h5 is "
                "for model.load_weights; what tf-keras writes as .weights.h5 must be "
                "written again, as .h5."
            )
        names = _names(layers, "layer_names") or []
        if "top_level_model_weights" in layers:
            names.append("top_level_model_weights")
        entries = [_entry_of_group(name, layers[name]) for name in names]
    return [entry for entry in entries if entry.weights]


def _entry_of_group(layer: str, group: Any) -> LayerWeights:
    weights = []
    for path in _names(group, "weight_names") or []:
        folder, _, name = path.partition(":")[0].rpartition("/")
        if "flip_ratio" in folder.split("/") and name in _METRIC_VARIABLES:
            continue
        weights.append((_RENAMED.get(name, name), _array(group, path)))
    return LayerWeights(layer, tuple(weights))


def _array(group: Any, path: str) -> Any:
    array = np.asarray(group[path][()])
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{path} is {array.dtype}, not numbers")
    return array


def _entries_of_model(model: Any) -> list[LayerWeights]:
    if not isinstance(model, keras.Model):
        raise ArgumentError(
            f"load_larq_weights takes a Keras model, found {type(model).__name__}."
        )
    if not model.built:
        raise NotBuiltError(
            f"model {model.name!r} has no weights yet. Build it first: give it an Input, "
            "or call it with data."
        )
    entries = [_entry(layer.name, _trainable_first(layer)) for layer in model.layers]
    inner = {id(variable) for layer in model.layers for variable in layer.weights}
    outer = [variable for variable in _trainable_first(model) if id(variable) not in inner]
    entries.append(_entry(model.name, outer))
    return [entry for entry in entries if entry.weights]


def _entry(layer: str, variables: Sequence[Any]) -> LayerWeights:
    named = ((_RENAMED.get(v.name, v.name), v) for v in variables)
    return LayerWeights(layer, tuple(named))


def _trainable_first(layer: Any) -> list[Any]:
    """The variables in the order in which Keras 2 saves them."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _misfit(
    model: str, targets: list[LayerWeights], file: str, sources: list[LayerWeights]
) -> str:
    """The error message for a file that does not fit."""
    matcher = difflib.SequenceMatcher(
        None,
        [entry.signature for entry in targets],
        [entry.signature for entry in sources],
        autojunk=False,
    )
    matched, rows = 0, []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            matched += b - a
            rows.append([f"({b - a} layers that match)", ""])
            continue
        for target, source in itertools.zip_longest(targets[a:b], sources[c:d]):
            rows.append([str(target or "-"), str(source or "-")])
    if len(rows) > _MOST_ROWS:
        rows = [*rows[:_MOST_ROWS], [f"(and {len(rows) - _MOST_ROWS} rows more)", ""]]
    table = Table(f"{model} and {file}", ["Model", "File"], rows)
    return (
        f"the weights in {file} are not those of {model!r}: of {len(targets)} layers with "
        f"weights in the model and {len(sources)} in the file, {matched} match in order. "
        "Nothing was loaded. Build the network that was saved, with the same arguments.\n"
        f"{table.to_text()}"
    )
