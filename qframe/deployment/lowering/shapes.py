"""The lowering of layers that move, join, repeat or choose numbers."""

from __future__ import annotations

from typing import Any

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import same_numbers
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.errors import QFrameError


def add_reshape(tracer: Tracer, x: Traced, shape: tuple[int, ...]) -> Traced:
    """Add a reshape, unless the tensor has the shape."""
    return x if x.shape == shape else tracer.add(operations.Reshape(shape=shape), x)


def as_image(tracer: Tracer, x: Traced) -> Traced:
    """A sequence as an image of one row; an image as it is."""
    return add_reshape(tracer, x, (1, *x.shape)) if len(x.shape) == 2 else x


def as_before(tracer: Tracer, y: Traced, x: Traced) -> Traced:
    """An image as a sequence, if `x` is one."""
    return add_reshape(tracer, y, y.shape[1:]) if len(x.shape) == 2 else y


def of_image(numbers: Any, other: int = 1) -> tuple[int, int]:
    """The numbers for both axes of an image, from those of a layer of one or two axes."""
    numbers = tuple(numbers) if isinstance(numbers, (tuple, list)) else (numbers,)
    return (other, *numbers) if len(numbers) == 1 else numbers


def add_slice(tracer: Tracer, x: Traced, *chosen: slice) -> Traced:
    """Add a slice along the first axes."""
    ranges = [
        range(size)[part] for part, size in zip(chosen, x.shape[: len(chosen)], strict=True)
    ]
    ranges += [range(size) for size in x.shape[len(chosen) :]]
    if any(part.step < 1 for part in ranges):
        raise QFrameError("it counts backwards, and slices count forwards")
    if all(len(part) == size for part, size in zip(ranges, x.shape, strict=True)):
        return x
    operation = operations.Slice(
        starts=tuple(part.start for part in ranges),
        sizes=tuple(len(part) for part in ranges),
        steps=tuple(part.step for part in ranges),
    )
    return tracer.add(operation, x)


def add_concatenate(tracer: Tracer, inputs: list[Traced], axis: int) -> Traced:
    """Add a concatenation; integers of one grid stay integers."""
    if not all(same_numbers(tensor.value, inputs[0].value) for tensor in inputs):
        inputs = [tracer.real(tensor) for tensor in inputs]
    axis = axis % (len(inputs[0].shape) + 1)
    if not axis:
        raise QFrameError("it joins batches")
    if len(inputs) == 1:
        return inputs[0]
    return tracer.add(operations.Concatenate(axis=axis), *inputs)


def add_transpose(tracer: Tracer, x: Traced, axes: tuple[int, ...]) -> Traced:
    """Add a transposition, unless the axes are in order; axis 0 is the batch."""
    if axes == tuple(range(1, len(x.shape) + 1)):
        return x
    return tracer.add(operations.Transpose(axes=axes), x)


def add_repeat(tracer: Tracer, x: Traced, axis: int, count: int) -> Traced:
    """Add a repetition of each number, unless it is once."""
    operation = operations.Repeat(axis=axis, count=int(count))
    return x if count == 1 else tracer.add(operation, x)


def concatenate(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a concatenation."""
    return add_concatenate(tracer, inputs, layer.axis)


def reshape(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a reshape."""
    (x,) = inputs
    shape = tuple(layer.compute_output_shape((1, *x.shape)))[1:]
    return tracer.add(operations.Reshape(shape=shape), x)


def permute(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a transposition."""
    return add_transpose(tracer, inputs[0], tuple(layer.dims))


def repeat_vector(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a sequence of copies of a vector."""
    (x,) = inputs
    return add_repeat(tracer, add_reshape(tracer, x, (1, *x.shape)), 1, layer.n)


def cropping(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a slice of a sequence or an image."""
    (x,) = inputs
    pairs = layer.cropping if len(x.shape) == 3 else [layer.cropping]
    sizes = zip(pairs, x.shape[: len(pairs)], strict=True)
    return add_slice(tracer, x, *(slice(a, size - b) for (a, b), size in sizes))
