"""Verification of exported files: a file in its own runtime beside its Keras model."""

from __future__ import annotations

from typing import Any

from qframe.paths import AnyPath
from qframe.reports.verification.result import EdgeAgreement, OutputAgreement, Verification
from qframe.reports.verification.running import verification_of

__all__ = ["EdgeAgreement", "OutputAgreement", "Verification", "verify"]


def verify(
    model: Any,
    path: AnyPath,
    data: Any,
    labels: Any = None,
    *,
    target: str | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    edge_examples: int = 256,
    tolerance: float = 1e-5,
    verbose: Any = "auto",
) -> Verification:
    r"""Compare an exported file, in its own runtime, with the model that it is of.

    Both run on the same data. The numbers *y* of the model and *f* of the file are equal if

    .. math:: |f - y| \le \mathrm{tolerance} \cdot \max |y|

    with the largest magnitude in the tensor, and within one step if they differ by that
    and one step of the grid on which the model quantizes the tensor. NaN equals NaN. On a
    grid of up to 2^16 numbers the default tolerance is less than a step, so that equal
    numbers are the same integer.

    Then the tensors between layers are compared one by one, as far as the file has them:
    the edge ``"dense"`` is the output of the layer `dense`, ``"dense:input"`` that of its
    input quantizer, ``"dense#2"`` the output of its second call. Edges of a file are real
    tensors of it: where batch normalization, activations and quantizers became one
    operation, only its result is there. Edges in a batch of 32 examples are in memory
    together, those of the model and those of the file.

    Args:
        model: a built Keras model.
        path: the file that `qframe.export` wrote.
        data: as in `Model.predict`: arrays, in a list or dict for several inputs, a
            `tf.data.Dataset`, a `PyDataset`, a PyTorch `DataLoader` or a generator.
        labels: the class of each example, as numbers or one-hot, for the accuracy of both.
            A list for several outputs, with None for those without. Default None.
        target: an identifier of the exporter. Default None: the one with a runtime for
            files of this suffix.
        batch_size: for arrays; default None is Keras's 32.
        steps: the number of batches. Default None: all.
        edge_examples: the number of examples, the first ones, whose edges are compared; 0
            for none. Default 256.
        tolerance: the part of the largest magnitude that rounding in float32 may make.
            Default 1e-5.
        verbose: 0 for no progress bar. Default ``"auto"``: one on a terminal's standard
            error, after two seconds.

    Returns:
        The agreement. It prints as tables; `check` raises where it is too low.

    Raises:
        ArgumentError: `model` is not a Keras model; the file has other inputs or outputs
            than it; no runtime, or several, are known for the file; an argument is wrong.
        NotBuiltError: the model has no weights yet.
        DataError: the file is damaged; the data is empty, or the data or the labels do
            not fit.
        PluginError: a package that the runtime needs is not installed.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> layer = qf.layers.QuantDense(2, kernel_quantizer="integer", name="head")
        >>> model = keras.Sequential([keras.Input((4,)), layer])
        >>> qf.export(model, "m.safetensors", target="packed")  # doctest: +SKIP
        >>> images = np.ones((8, 4))
        >>> verified = qf.verify(model, "m.safetensors", images)  # doctest: +SKIP
        >>> verified.equal, verified.first_difference  # doctest: +SKIP
        (1.0, None)
    """
    return verification_of(
        model,
        path,
        data,
        labels,
        target=target,
        batch_size=batch_size,
        steps=steps,
        edge_examples=edge_examples,
        tolerance=tolerance,
        verbose=verbose,
    )
