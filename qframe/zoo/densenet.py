"""BinaryDenseNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import (
    batch_norm,
    binary_conv,
    classifier,
    image_stem,
    pointwise,
    relu,
    signs,
)

_GROWTH = 64


def _design(depth: str, notop: str = "v0.1.0") -> Design:
    name, release = f"binary_densenet_{depth}", "binary_densenet-v0.1.0"
    files = larq_files(release, name, notop=f"binary_densenet-{notop}")
    return Design(f"binary_densenet{depth}", files)


def _dense(x: Any, dilation: int) -> Any:
    """A binary convolution, concatenated to its input."""
    y = binary_conv(batch_norm(x), _GROWTH, dilation_rate=dilation, **signs(1.3))
    return layers.concatenate([x, y])


def _transition(x: Any, reduction: float, pool: bool) -> Any:
    """Fewer channels, and half the image size if `pool`."""
    # Rounded to 32-bit words.
    filters = round(x.shape[-1] // reduction / 32) * 32
    x = batch_norm(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)
    return pointwise(relu(x), filters, "he_normal")


def _densenet(
    images: Any,
    num_classes: int | None,
    blocks: Sequence[int],
    reductions: Sequence[float],
    dilations: Sequence[int] = (1, 1, 1, 1),
) -> Any:
    x, _ = image_stem(images)
    for index, (depth, dilation) in enumerate(zip(blocks, dilations, strict=True)):
        if index:
            x = _transition(x, reductions[index - 1], pool=dilation == 1)
        for _ in range(depth):
            x = _dense(x, dilation)
    return classifier(relu(batch_norm(x)), num_classes, "he_normal")


@network(_design("28"))
def BinaryDenseNet28(images: Any, num_classes: int | None) -> Any:
    """BinaryDenseNet with 28 layers, each of which reads all earlier ones in its block.

    Images below 50 pixels keep their size in the first layer.

    Example:
        >>> import qframe as qf
        >>> model = qf.zoo.BinaryDenseNet28(input_shape=(32, 32, 3), num_classes=10)
        >>> model.output_shape
        (None, 10)

    Paper: Bethge et al., 2019, https://arxiv.org/abs/1906.08637
    """
    return _densenet(images, num_classes, (6, 6, 6, 5), (2.7, 2.7, 2.2))


@network(_design("37"))
def BinaryDenseNet37(images: Any, num_classes: int | None) -> Any:
    """BinaryDenseNet with 37 layers: `BinaryDenseNet28` with longer blocks.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.BinaryDenseNet37().count_params()  # doctest: +SKIP
        8734120

    Paper: Bethge et al., 2019, https://arxiv.org/abs/1906.08637
    """
    return _densenet(images, num_classes, (6, 8, 12, 6), (3.3, 3.3, 4))


@network(_design("37_dilated", notop="v0.1.1"))
def BinaryDenseNet37Dilated(images: Any, num_classes: int | None) -> Any:
    """`BinaryDenseNet37` with dilation instead of pooling in the last two blocks.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.BinaryDenseNet37Dilated().count_params()  # doctest: +SKIP
        8734120

    Paper: Bethge et al., 2019, https://arxiv.org/abs/1906.08637
    """
    return _densenet(images, num_classes, (6, 8, 12, 6), (3.3, 3.3, 4), (1, 1, 2, 4))


@network(_design("45"))
def BinaryDenseNet45(images: Any, num_classes: int | None) -> Any:
    """BinaryDenseNet with 45 layers: `BinaryDenseNet28` with longer blocks.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.BinaryDenseNet45().count_params()  # doctest: +SKIP
        13939240

    Paper: Bethge et al., 2019, https://arxiv.org/abs/1906.08637
    """
    return _densenet(images, num_classes, (6, 12, 14, 8), (2.7, 3.3, 4))
