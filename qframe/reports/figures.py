"""Figures of a quantizer with its surrogate gradient, and of the weights of a model."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import quantizers
from qframe.errors import ArgumentError, QFrameError
from qframe.layers.slots import Slot
from qframe.layers.tree import quantized_weights
from qframe.quantizers import Quantizer
from qframe.quantizers.differentiation import to_numpy, to_tensor, value_and_gradient
from qframe.registry.configurable import construct, named_parameters
from qframe.registry.discovery import registry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

# An odd number of points includes the middle.
_POINTS = 601
# The default range, which most weights and activations have.
_DEFAULT_END = 1.5
# Of wide grids only the part near zero is visible.
_LARGEST_END = 8.0
_CHANNELS = 16
_LEVELS = 256
_INK, _SOFT, _ACCENT = "#20639b", "#9aa5b1", "#d1495b"


def plot_quantizer(
    quantizer: Any, low: float | None = None, high: float | None = None
) -> Figure:
    r"""Draw the values of a quantizer and its surrogate gradient.

    The quantizer runs in inference on the numbers from `low` to `high` as one tensor: a
    scale that depends on the tensor is that of these numbers. The gradient is that of the
    sum of all values. For a stochastic quantizer there is a dot for one draw of each
    number. A quantizer with state that is not in a layer yet starts from a batch of
    standard normal numbers. One with state by channel has a line for each of at most 16
    channels.

    Args:
        quantizer: as in `qframe.quantizers.get`: an identifier, a quantizer, a callable.
            It is not changed.
        low: the smallest number. Default None: below the range of the quantizer and the
            support of its gradient.
        high: the largest number. Default None: above both.

    Returns:
        A `matplotlib.figure.Figure` with two axes. ``figure.savefig("sign.png")`` writes
        it, and a notebook shows it.

    Raises:
        ArgumentError: there is no such quantizer; `low` is not below `high`; the state of
            the quantizer does not fit a line of numbers.
        QFrameError: matplotlib is not installed.

    Example:
        >>> import qframe as qf
        >>> values, gradient = qf.plot_quantizer("ste_sign").axes
        >>> x, y = values.lines[-1].get_data()
        >>> sorted({float(v) for v in y})
        [-1.0, 1.0]
    """
    quantizer = quantizers.get(quantizer)
    if quantizer is None:
        raise ArgumentError(
            "plot_quantizer draws a quantizer, found None. Write for example "
            "qframe.plot_quantizer('ste_sign')."
        )
    figure = _figure(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    curves = Curves.of(quantizer, low, high)
    left.plot(curves.x, curves.x, color=_SOFT, linewidth=0.8, linestyle=":")
    if curves.draws is not None:
        left.plot(curves.x, curves.draws, ".", color=_ACCENT, markersize=1.5, alpha=0.5)
    left.plot(curves.x, curves.values, color=_INK, linewidth=1.5)
    right.plot(curves.x, curves.gradients, color=_ACCENT, linewidth=1.5)
    left.set(xlabel="x", ylabel="q(x)")
    right.set(xlabel="x", ylabel="dq/dx")
    for axes in (left, right):
        _plain(axes)
    # The identity is only for comparison and may be cut.
    shown = curves.values if curves.draws is None else [curves.values, curves.draws]
    left.set_ylim(*_with_margin(np.min(shown), np.max(shown)))
    lowest, highest = curves.gradients.min(), curves.gradients.max()
    right.set_ylim(*_with_margin(min(0.0, lowest), max(0.0, highest)))
    figure.suptitle(textwrap.fill(_label(quantizer), 88), fontsize=9)
    return figure


def plot_weights(model: Any) -> Figure:
    """Draw the quantized weights of a model, latent and quantized.

    Each weight has a histogram of its latent values. A line at each quantized value shows
    the part of the weights that have it.

    Args:
        model: a built model or layer with quantized weights.

    Returns:
        A `matplotlib.figure.Figure`. Each weight has axes with its path as the title, and
        twin axes for the lines.

    Raises:
        ArgumentError: no weight is quantized.
        QFrameError: a weight contains NaN or infinity; matplotlib is not installed.

    Example:
        >>> import keras, qframe as qf
        >>> signs = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
        >>> dense = qf.layers.QuantDense(4, name="head", **signs)
        >>> model = keras.Sequential([keras.Input((8,)), dense])
        >>> figure = qf.plot_weights(model)
        >>> figure.axes[0].get_title()
        'head/kernel'
    """
    weights = quantized_weights(model)
    columns = min(len(weights), 3)
    rows = math.ceil(len(weights) / columns)
    figure = _figure(max(4.0, 3.2 * columns), 0.5 + 2.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, weight in zip(grid, weights, strict=False):
        _draw_weight(axes, weight)
    for axes in grid[len(weights) :]:
        axes.remove()
    figure.legend(
        *_legend(figure), loc="outside upper center", ncols=2, frameon=False, fontsize=8
    )
    return figure


@attrs.frozen(eq=False)
class Curves:
    """The values and gradients of a quantizer at `x`, with a column for each channel."""

    x: Array
    values: Array
    gradients: Array
    draws: Array | None

    @classmethod
    def of(cls, quantizer: Any, low: float | None, high: float | None) -> Curves:
        """Compute the curves of a quantizer without changing it."""
        if isinstance(quantizer, Quantizer) and not quantizer.built:
            quantizer = _started(quantizer)
        begin, end = _span(quantizer)
        low = begin if low is None else float(low)
        high = end if high is None else float(high)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ArgumentError(
                f"plot_quantizer draws from a finite number to a larger one, found low="
                f"{low:g} and high={high:g}."
            )
        x = np.linspace(low, high, _POINTS).astype("float32")
        tensor, order = _tensor(quantizer, x)

        def infer(t: Any) -> Any:
            return _call(quantizer, t, training=False)

        values, gradients = value_and_gradient(infer, tensor, np.ones_like(tensor))
        draws = _draws(quantizer, tensor)
        columns = [
            None if a is None else _columns(a)[order] for a in (values, gradients, draws)
        ]
        return cls(x, *columns)  # type: ignore[arg-type]


def _started(quantizer: Quantizer) -> Quantizer:
    """Return a copy with the same parameters and an initial state."""
    fresh: Quantizer = construct(type(quantizer), quantizer.parameters)
    fresh.build((_POINTS, 1))
    if fresh.traits.updates:
        fresh(np.random.default_rng(0).normal(size=(1024, 1)), training=True)
    return fresh


def _span(quantizer: Any) -> tuple[float, float]:
    """Return numbers below and above the range and the support of a quantizer."""
    if not isinstance(quantizer, Quantizer):
        return -_DEFAULT_END, _DEFAULT_END
    traits, stateful = quantizer.traits, bool(quantizer.weights)
    ends = [*(traits.support or ())]
    if not traits.scaled:
        ends += traits.range or ()
    # Without state the scale depends on the tensor, which does not exist yet.
    elif stateful and (affine := quantizer.affine(to_tensor(np.ones((1, 1), "float32")))):
        ends += [end * float(np.max(_numbers(affine[0]))) for end in traits.range or ()]
    if not ends:
        end = 2 * _DEFAULT_END if stateful else _DEFAULT_END
        return -end, end
    low, high = max(min(*ends, 0.0), -_LARGEST_END), min(max(*ends, 0.0), _LARGEST_END)
    margin = (high - low) / 4 or _DEFAULT_END
    return low - margin, high + margin


def _tensor(quantizer: Any, x: Array) -> tuple[Array, Array]:
    """Return the numbers as a tensor for a quantizer, and their order in it."""
    # Groups of neighbours share a scale, so shuffled groups have numbers of all sizes.
    shuffled = np.random.default_rng(0).permutation(len(x))
    order = np.argsort(shuffled)
    shapes = _states(quantizer)
    if not shapes:
        return x[shuffled][:, None], order
    if len(shapes) == 1:
        (shape,) = shapes
        if 1 in shape:
            free = shape.index(1)
            sizes = [-1 if axis == free else 1 for axis in range(len(shape))]
            line = x[shuffled].reshape(sizes)
            full = [len(x) if axis == free else size for axis, size in enumerate(shape)]
            return np.ascontiguousarray(np.broadcast_to(line, full)), order
    raise ArgumentError(
        f"plot_quantizer draws a line of numbers, and {quantizer!r} has a state of the "
        f"shapes {sorted(shapes)}, which fits none. Draw one that is in no layer: "
        f"qframe.plot_quantizer({_label(quantizer)!r})."
    )


def _columns(array: Array) -> Array:
    """Return the numbers of some channels, side by side."""
    axis = array.shape.index(_POINTS)
    return np.moveaxis(array, axis, 0).reshape(_POINTS, -1)[:, :_CHANNELS]


def _states(quantizer: Any) -> set[tuple[int, ...]]:
    """Return the shapes of the state variables that are not scalar."""
    weights = quantizer.weights if isinstance(quantizer, Quantizer) else ()
    return {tuple(w.shape) for w in weights if math.prod(w.shape) > 1}


def _call(quantizer: Any, tensor: Any, training: bool) -> Any:
    if isinstance(quantizer, keras.layers.Layer):
        return quantizer(tensor, training=training)
    return quantizer(tensor)


def _draws(quantizer: Any, tensor: Array) -> Array | None:
    """Draw a value for each number; return None where the quantizer is not stochastic."""
    if not isinstance(quantizer, Quantizer) or not quantizer.traits.stochastic:
        return None
    before = [ops.copy(variable) for variable in quantizer.variables]
    try:
        return to_numpy(_call(quantizer, to_tensor(tensor), training=True))
    finally:
        for variable, value in zip(quantizer.variables, before, strict=True):
            variable.assign(value)


def _numbers(value: Any) -> Array:
    if isinstance(value, (int, float, np.ndarray, np.generic)):
        return np.asarray(value)
    return to_numpy(value)


def _label(quantizer: Any) -> str:
    """Return the identifier without default arguments."""
    if not isinstance(quantizer, Quantizer):
        return str(getattr(quantizer, "__name__", None) or quantizer)
    cls: Any = type(quantizer)
    component = registry.component_of(cls)
    name = component.qualified_name if component else cls.__name__
    defaults = named_parameters(cls)
    arguments = [
        f"{key}={value!r}"
        for key, value in quantizer.parameters.items()
        if value != defaults[key].default
    ]
    return f"{name}({', '.join(arguments)})" if arguments else name


def _draw_weight(axes: Axes, weight: Slot) -> None:
    latent, values = (
        to_numpy(ops.cast(tensor, "float32")).ravel()
        for tensor in (weight.latent_value(), weight.quantized_value())
    )
    if not (np.isfinite(latent).all() and np.isfinite(values).all()):
        raise QFrameError(
            f"{weight.variable_path} holds NaN or infinity, which no histogram shows. "
            "Train again from a checkpoint."
        )
    parts = np.full(latent.shape, 1 / latent.size)
    axes.hist(latent, bins=50, weights=parts, color=_SOFT, label="latent values")
    levels, parts_of_levels = _levels(values)
    beside = axes.twinx()
    width = 1.6 if len(levels) <= 32 else 0.6
    beside.vlines(
        levels, 0, parts_of_levels, color=_INK, linewidth=width, label="quantized values"
    )
    beside.set_ylim(0, min(1.05, 1.15 * float(parts_of_levels.max())))
    axes.set_title(weight.variable_path, fontsize=9)
    for each in (axes, beside):
        _plain(each)
    beside.spines["right"].set_visible(True)
    axes.tick_params(axis="y", colors=_SOFT)
    beside.tick_params(axis="y", colors=_INK)


def _levels(values: Array) -> tuple[Array, Array]:
    """Return the distinct values, or the middles of bins for many, and their parts."""
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > _LEVELS:
        counts, edges = np.histogram(values, _LEVELS)
        levels = (edges[:-1] + edges[1:]) / 2
        levels, counts = levels[counts > 0], counts[counts > 0]
    return levels, counts / values.size


def _legend(figure: Figure) -> tuple[list[Any], list[str]]:
    """Return the handles and labels without repetition, since all axes share them."""
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    return list(shown.values()), list(shown)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _with_margin(low: Any, high: Any) -> tuple[float, float]:
    margin = float(high - low or 1.0) * 0.08
    return float(low) - margin, float(high) + margin


def _figure(width: float, height: float) -> Figure:
    try:
        from qframe.reports.shown_figure import ShownFigure
    except ImportError as error:
        raise QFrameError(
            f"matplotlib draws this, which is not installed: {error}. Write: pip install "
            "'keras-qframe[plot]'."
        ) from error
    # pyplot would keep the figure and open a window for it.
    return ShownFigure(figsize=(width, height), layout="constrained")
