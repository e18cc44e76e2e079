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

# An odd number, which includes the middle.
_POINTS = 601
# The range to draw without any ends: that of most weights and activations.
_NEAR = 1.5
# The largest end to draw: of wide grids only the part near zero is visible.
_FAR = 8.0
_CHANNELS = 16
_LEVELS = 256
_INK, _SOFT, _ACCENT = "#20639b", "#9aa5b1", "#d1495b"


def plot_quantizer(
    quantizer: Any, low: float | None = None, high: float | None = None
) -> Figure:
    r"""Draw the values of a quantizer and its surrogate gradient.

    The quantizer is called in inference on the numbers from `low` to `high` as one tensor:
    a scale that depends on the tensor is that of these numbers. The gradient is that of
    the sum of all values. A stochastic quantizer has a dot for one draw of each number. A
    quantizer that has state and is not in a layer yet starts from a batch of standard
    normal numbers; one with state for each channel has a line for each, of at most 16
    channels.

    Args:
        quantizer: as in `qframe.quantizers.get`: an identifier, a quantizer, a callable.
            It is not changed.
        low: the smallest number. Default None, below the range and the support of the
            gradient that the quantizer states.
        high: the largest number. Default None, above both.

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
    # The identity is for comparison and may be cut.
    shown = curves.values if curves.draws is None else [curves.values, curves.draws]
    left.set_ylim(*_with_margin(np.min(shown), np.max(shown)))
    lowest, highest = curves.gradients.min(), curves.gradients.max()
    right.set_ylim(*_with_margin(min(0.0, lowest), max(0.0, highest)))
    figure.suptitle(textwrap.fill(_label(quantizer), 88), fontsize=9)
    return figure


def plot_weights(model: Any) -> Figure:
    """Draw the quantized weights of a model, latent and quantized.

    Each has a histogram of its latent values, and a line at each quantized value, as high
    as the part of the weights that have it.

    Args:
        model: a built model or layer with quantized weights.

    Returns:
        A `matplotlib.figure.Figure`; each weight has axes, whose title is its path, and
        others for the lines.

    Raises:
        ArgumentError: no weight is quantized.
        QFrameError: a weight holds NaN or infinity; matplotlib is not installed.

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
    """Numbers, and the values and gradients of a quantizer; a column for each channel."""

    x: Array
    values: Array
    gradients: Array
    draws: Array | None

    @classmethod
    def of(cls, quantizer: Any, low: float | None, high: float | None) -> Curves:
        """The curves of a quantizer, which is not changed."""
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
    """A copy with the same parameters and an initial state."""
    fresh: Quantizer = construct(type(quantizer), quantizer.parameters)
    fresh.build((_POINTS, 1))
    if fresh.traits.updates:
        fresh(np.random.default_rng(0).normal(size=(1024, 1)), training=True)
    return fresh


def _span(quantizer: Any) -> tuple[float, float]:
    """From below to above the range and the support that a quantizer states."""
    if not isinstance(quantizer, Quantizer):
        return -_NEAR, _NEAR
    traits, stateful = quantizer.traits, bool(quantizer.weights)
    ends = [*(traits.support or ())]
    if not traits.scaled:
        ends += traits.range or ()
    # Without state, the scale is that of the tensor, which does not exist yet.
    elif stateful and (affine := quantizer.affine(to_tensor(np.ones((1, 1), "float32")))):
        ends += [end * float(np.max(_numbers(affine[0]))) for end in traits.range or ()]
    if not ends:
        near = 2 * _NEAR if stateful else _NEAR
        return -near, near
    low, high = max(min(*ends, 0.0), -_FAR), min(max(*ends, 0.0), _FAR)
    margin = (high - low) / 4 or _NEAR
    return low - margin, high + margin


def _tensor(quantizer: Any, x: Array) -> tuple[Array, Array]:
    """The numbers as a tensor for a quantizer, and their order in it."""
    # Neighbours may have one scale: shuffled, they are of all sizes.
    mixed = np.random.default_rng(0).permutation(len(x))
    order = np.argsort(mixed)
    shapes = _states(quantizer)
    if not shapes:
        return x[mixed][:, None], order
    if len(shapes) == 1:
        (shape,) = shapes
        if 1 in shape:
            at = shape.index(1)
            line = x[mixed].reshape([-1 if axis == at else 1 for axis in range(len(shape))])
            full = [len(x) if axis == at else size for axis, size in enumerate(shape)]
            return np.ascontiguousarray(np.broadcast_to(line, full)), order
    raise ArgumentError(
        f"plot_quantizer draws a line of numbers, and {quantizer!r} has a state of the "
        f"shapes {sorted(shapes)}, which fits none. Draw one that is in no layer: "
        f"qframe.plot_quantizer({_label(quantizer)!r})."
    )


def _columns(array: Array) -> Array:
    """The numbers of some channels, side by side."""
    at = array.shape.index(_POINTS)
    return np.moveaxis(array, at, 0).reshape(_POINTS, -1)[:, :_CHANNELS]


def _states(quantizer: Any) -> set[tuple[int, ...]]:
    """The shapes of the state variables that are more than a number."""
    weights = quantizer.weights if isinstance(quantizer, Quantizer) else ()
    return {tuple(w.shape) for w in weights if math.prod(w.shape) > 1}


def _call(quantizer: Any, tensor: Any, training: bool) -> Any:
    if isinstance(quantizer, keras.layers.Layer):
        return quantizer(tensor, training=training)
    return quantizer(tensor)


def _draws(quantizer: Any, tensor: Array) -> Array | None:
    """A random draw for each number; None for a quantizer that is not stochastic."""
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
    """The identifier, without arguments that have their default."""
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
            "Train anew from a checkpoint."
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
    """The distinct values and the part of each; the middles of bins where many."""
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > _LEVELS:
        counts, edges = np.histogram(values, _LEVELS)
        levels = (edges[:-1] + edges[1:]) / 2
        levels, counts = levels[counts > 0], counts[counts > 0]
    return levels, counts / values.size


def _legend(figure: Figure) -> tuple[list[Any], list[str]]:
    """The handles and labels without repetition, since all axes have the same."""
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
        from matplotlib.figure import Figure
    except ImportError as error:
        raise QFrameError(
            f"matplotlib draws this, which is not installed: {error}. Write: pip install "
            "'keras-qframe[plot]'."
        ) from error
    # Not from pyplot, which would keep the figure and open a window for it.
    return Figure(figsize=(width, height), layout="constrained")
