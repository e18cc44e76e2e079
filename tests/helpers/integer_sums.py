"""Sums of products on integers, written apart from the reference of the graph."""

import itertools

import numpy as np

from qframe.deployment.graph import operations as op


def integer_sums(product, x):
    """Sums of products of int64, tap by tap."""
    kernel, x = product.kernel.integers().astype(np.int64), x.astype(np.int64)
    if isinstance(product, op.Dense):
        return x @ kernel.T
    top, bottom, left, right = product.pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, height, width, _ = kernel.shape
    rows, columns = ((x.shape[i + 1] - kernel.shape[i + 1]) for i in range(2))
    total = 0
    for i, j in itertools.product(range(height), range(width)):
        window = x[:, i : i + rows + 1 : product.strides[0]]
        window = window[:, :, j : j + columns + 1 : product.strides[1]]
        if product.groups > 1:
            total += window * kernel[:, i, j, 0]
        else:
            total += window @ kernel[:, i, j].T
    return total
