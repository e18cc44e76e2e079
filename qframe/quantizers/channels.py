"""The axes of the channels of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

from qframe.errors import ArgumentError

ChannelAxis = int | tuple[int, ...] | None


def axes_within_channels(rank: int, channel_axis: ChannelAxis) -> tuple[int, ...]:
    """The axes that a statistic of each channel reduces: all but those of the channels.

    Args:
        rank: the number of axes of the tensor.
        channel_axis: the axis or axes of the channels; None without channels. A scalar is
            one channel.

    Raises:
        ArgumentError: the tensor has no such axis.
    """
    channel_axes = (channel_axis,) if isinstance(channel_axis, int) else channel_axis or ()
    if rank == 0:
        return ()
    for axis in channel_axes:
        if not -rank <= axis < rank:
            raise ArgumentError(
                f"channel_axis={channel_axis} names axis {axis}, which a tensor of {rank} "
                f"axes lacks; give one from {-rank} to {rank - 1}, or None for one scale."
            )
    kept = {axis % rank for axis in channel_axes}
    return tuple(axis for axis in range(rank) if axis not in kept)


def channel_shape(
    shape: Sequence[int | None], channel_axis: ChannelAxis
) -> tuple[int | None, ...]:
    """The shape of a statistic of each channel, broadcastable to `shape`."""
    reduced = axes_within_channels(len(shape), channel_axis)
    return tuple(1 if axis in reduced else size for axis, size in enumerate(shape))


def shape_of_state(
    shape: Sequence[int | None], channel_axis: ChannelAxis, does: str, instead: str
) -> tuple[int, ...]:
    """`channel_shape` for the state of a quantizer for each channel.

    Args:
        shape: the shape of the quantized tensor.
        channel_axis: the axis or axes of its channels.
        does: a clause for the errors, such as ``"lsq learns a step"``.
        instead: the argument for one state of the whole tensor.

    Raises:
        ArgumentError: the tensor has no channels, or their number is not known.
    """
    if channel_axis is None:
        raise ArgumentError(
            f"{does} for each channel, and what it quantizes has no axis of channels, as "
            f"a bias has none. Write {instead} there."
        )
    sizes = channel_shape(shape, channel_axis)
    known = tuple(size for size in sizes if size is not None)
    if len(known) < len(sizes):
        raise ArgumentError(
            f"{does} for each channel, and their number is not known: the shape is "
            f"{tuple(shape)}, the axis of the channels {channel_axis}. Give the model a "
            f"shape with that number, or write {instead}."
        )
    return known
