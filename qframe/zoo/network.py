"""The common arguments, inputs and weight files of the reference networks."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, did_you_mean
from qframe.paths import existing_file
from qframe.validation import boolean, effective, integer_within
from qframe.zoo.larq_weights import is_legacy, load_larq_weights

RELEASES = "https://github.com/larq/zoo/releases/download"


class Network(Protocol):
    """The call of a reference network."""

    __name__: str

    def __call__(
        self,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_tensor: Any = None,
        weights: str | os.PathLike[str] | None = None,
        include_top: bool = True,
        num_classes: int = 1000,
    ) -> Any: ...


_CALL = inspect.signature(Network.__call__)
# Without self.
_PARAMETERS = list(_CALL.parameters.values())[1:]


@attrs.frozen
class Design:
    """The properties of a network apart from its layers.

    Args:
        name: the name of the model.
        files: the ImageNet weights in Larq's releases: of the whole network, and of the
            network without its top.
        sized: whether the top requires a fixed image size.
    """

    name: str
    files: tuple[str, str]
    sized: bool = False


def larq_files(release: str, file: str = "", *, notop: str = "") -> tuple[str, str]:
    """The weight files in a release of Larq: with and without the top."""
    file = file or release.partition("-")[0]
    return f"{release}/{file}_weights.h5", f"{notop or release}/{file}_weights_notop.h5"


_ARGUMENTS = """
    Args:
        input_shape: the shape of an image, (height, width, channels). Default
            (224, 224, 3).
        input_tensor: a Keras tensor of images of that shape. The model starts at the
            inputs of its graph. Default None.
        weights: None for random weights, or the path of a file: a ``.h5`` of Larq or a
            ``.weights.h5`` of Keras. Default None.
        include_top: whether to include the classifier; without it the model returns
            the last feature maps. Default True.
        num_classes: the number of classes. Default 1000.

    Returns:
        A Keras model, not compiled.

    Raises:
        ArgumentError: an argument has another value, or contradicts another one.
        DataError: the file cannot be read, or contains other weights.
"""


def network(design: Design) -> Callable[[Callable[[Any, int | None], Any]], Network]:
    """Decorate a function of images and the number of classes as a network.

    The number of classes is None without the top.
    """

    def decorate(layers: Callable[[Any, int | None], Any]) -> Network:
        @functools.wraps(layers)
        def build(
            *,
            input_shape: Sequence[int | None] | None = None,
            input_tensor: Any = None,
            weights: str | os.PathLike[str] | None = None,
            include_top: bool = True,
            num_classes: int = 1000,
            **unknown: Any,
        ) -> Any:
            owner = layers.__name__
            _check_unknown(owner, unknown)
            boolean(owner, "include_top", include_top)
            integer_within(owner, "num_classes", num_classes, 1, 2**31 - 1)
            if num_classes != 1000:
                effective(
                    owner, "num_classes", num_classes, "include_top", include_top, True
                )
            file = _weight_file(owner, design, weights, include_top)
            images = _images(owner, design, input_shape, input_tensor, include_top)
            classes = num_classes if include_top else None
            model, outputs = _model(owner, design, images, layers, classes)
            if file is not None:
                _load(model, owner, file)
            if input_tensor is None:
                return model
            # The model starts at the source of the tensor, as in keras.applications.
            inputs = keras.utils.get_source_inputs(input_tensor)
            inputs = inputs[0] if len(inputs) == 1 else inputs
            return keras.Model(inputs, outputs, name=design.name)

        build.design = design  # type: ignore[attr-defined]
        build.__signature__ = _CALL.replace(parameters=_PARAMETERS)  # type: ignore[attr-defined]
        # getdoc, since Python before 3.13 keeps the indentation of docstrings.
        summary, _, example = (inspect.getdoc(layers) or "").partition("\nExample:")
        arguments = inspect.cleandoc(_ARGUMENTS)
        build.__doc__ = f"{summary.rstrip()}\n\n{arguments}\n\nExample:{example}"
        return build

    return decorate


def _check_unknown(owner: str, unknown: dict[str, Any]) -> None:
    known = [parameter.name for parameter in _PARAMETERS]
    for name in unknown:
        raise ArgumentError(
            f"{owner} takes no argument {name!r}; it takes {', '.join(known)}."
            + did_you_mean(name, known)
        )


def _weight_file(owner: str, design: Design, weights: Any, include_top: bool) -> Any:
    """The path of the weight file; None for random weights."""
    if weights is None:
        return None
    if weights == "imagenet":
        file = design.files[0 if include_top else 1]
        name = file.rpartition("/")[2]
        top = "" if include_top else "include_top=False, "
        raise ArgumentError(
            f"weights='imagenet' of {owner}: nothing is downloaded here. Get the file "
            f"from {RELEASES}/{file} and write {owner}({top}weights={name!r})."
        )
    if not isinstance(weights, (str, os.PathLike)):
        raise ArgumentError(
            f"weights of {owner} must be None or the path of a .h5 file, found {weights!r}."
        )
    return existing_file(weights, ".h5")


def _images(owner: str, design: Design, shape: Any, tensor: Any, include_top: bool) -> Any:
    """The Keras tensor of images, checked."""
    if keras.config.image_data_format() != "channels_last":
        raise ArgumentError(
            f"{owner} has its channels last, and Keras is set to "
            f"{keras.config.image_data_format()!r}. Call "
            "keras.config.set_image_data_format('channels_last') first."
        )
    if shape is not None:
        shape = _shape(owner, shape)
    if tensor is not None:
        if not isinstance(tensor, keras.KerasTensor):
            raise ArgumentError(
                f"input_tensor of {owner} must be a Keras tensor such as "
                f"keras.Input((224, 224, 3)), found {type(tensor).__name__}. Call the "
                "model with an array once it is built."
            )
        tensor_shape = tuple(tensor.shape)[1:]
        if shape not in (None, tensor_shape):
            raise ArgumentError(
                f"input_shape={shape} of {owner} contradicts its input_tensor, whose "
                f"images have the shape {tensor_shape}. Leave input_shape out."
            )
        shape = _shape(owner, tensor_shape)
    shape = shape or (224, 224, 3)
    if include_top and design.sized and None in shape:
        raise ArgumentError(
            f"the top of {owner} requires a fixed image size, but input_shape={shape} "
            "leaves it open. Write for example input_shape=(224, 224, 3), or "
            "include_top=False."
        )
    return keras.Input(shape) if tensor is None else tensor


def _shape(owner: str, shape: Any) -> tuple[int | None, ...]:
    lengths = tuple(shape) if isinstance(shape, (list, tuple)) else ()
    valid = [n is None or (isinstance(n, int) and n > 0) for n in lengths]
    if len(lengths) != 3 or not all(valid) or lengths[2] is None:
        raise ArgumentError(
            f"input_shape of {owner} must be (height, width, channels), where the first "
            f"two may be None, found {shape!r}. Write for example (224, 224, 3)."
        )
    return lengths


def _model(
    owner: str, design: Design, images: Any, layers: Any, num_classes: int | None
) -> tuple[Any, Any]:
    """The model and its outputs; every version of Keras raises for small images."""
    try:
        outputs = layers(images, num_classes)
        # If the tensor is not an input, the graph of the model is a copy.
        model = keras.Model(images, outputs, name=design.name)
        for node in keras_internals.nodes(keras_internals.graph_of(model)):
            for tensor in node.outputs:
                if any(length is not None and length < 1 for length in tensor.shape):
                    raise ValueError(f"{node.operation.name} has nothing left of them")
    except (RuntimeError, ValueError) as error:
        raise ArgumentError(
            f"{owner} cannot be built for images of {tuple(images.shape)[1:]}, which may "
            f"be too small: {error}. Write for example input_shape=(224, 224, 3)."
        ) from error
    return model, outputs


def _load(model: Any, owner: str, file: Any) -> None:
    if is_legacy(file):
        load_larq_weights(model, file)
        return
    try:
        model.load_weights(file)
    except (KeyError, OSError, ValueError) as error:
        raise DataError(f"{file} does not hold the weights of this {owner}: {error}") from (
            error
        )
