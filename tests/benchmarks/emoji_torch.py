"""The networks of emoji as modules of PyTorch, for tools that quantize such."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import keras
import numpy as np
import torch
from torch import nn

from benchmarks.emoji import Pictures

BATCH = 64


def tensor(images: np.ndarray) -> torch.Tensor:
    """Images with the channels where PyTorch has them."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def batches(images: np.ndarray) -> Iterator[torch.Tensor]:
    """The images of one epoch, in their order."""
    return iter(tensor(images).split(BATCH))


def accuracy(module: nn.Module, pictures: Pictures) -> float:
    """How often a module is right."""
    module.eval()
    with torch.no_grad():
        outputs = [module(batch).numpy() for batch in batches(pictures.tests)]
    return pictures.accuracy(np.concatenate(outputs))


def copied(
    model: keras.Model,
    convolution: Callable[..., nn.Module] = nn.Conv2d,
    dense: Callable[..., nn.Module] = nn.Linear,
    options: Callable[[str], dict] = lambda name: {},
) -> nn.Sequential:
    """A module that computes what a network does.

    Args:
        model: the network: a chain of layers.
        convolution: what makes a convolution, by default without quantizers.
        dense: what makes a dense layer.
        options: takes the name of a layer, returns more arguments to make it with.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in model.layers:
        name = layer.name
        if isinstance(layer, keras.layers.ReLU):
            modules[name] = nn.ReLU()
        elif isinstance(layer, keras.layers.GlobalAveragePooling2D):
            modules[name] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        elif isinstance(layer, keras.layers.Dense):
            kernel = layer.get_weights()[0].T
            made = dense(*kernel.shape[::-1], bias=True, **options(name))
            modules[name] = _with_weights(made, kernel, layer)
        elif layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            kernel = layer.get_weights()[0]
            kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            (stride, _), size = layer.strides, kernel.shape[-1]
            # Keras pads a stride of 2 at the end alone, where the height is even.
            if size > 1 and stride == 2:
                modules[f"{name}_pad"] = nn.ZeroPad2d((0, size - 2, 0, size - 2))
            made = convolution(
                len(kernel) if depthwise else kernel.shape[1],
                len(kernel),
                size,
                stride=stride,
                padding=size // 2 if stride == 1 else 0,
                groups=len(kernel) if depthwise else 1,
                bias=True,
                **options(name),
            )
            modules[name] = _with_weights(made, kernel, layer)
    return nn.Sequential(modules).eval()


def ends(model: keras.Model) -> tuple[str, str]:
    """The names of the first and the last layer with weights."""
    first, *_, last = (layer.name for layer in model.layers if layer.weights)
    return first, last


def _with_weights(made: nn.Module, kernel: np.ndarray, layer: keras.Layer) -> nn.Module:
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        made.bias.copy_(torch.from_numpy(layer.get_weights()[1]))
    return made
