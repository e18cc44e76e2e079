"""Moments of the inputs of a layer, in float and quantized."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.observation.replay import Inputs
from qframe.passes.rounding.matrices import Matrices

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Moments:
    """The moments of inputs as rows, for each of G matrices with K inputs.

    Args:
        squares: the mean products of two quantized inputs, of shape (G, K, K).
        crossed: those of a quantized input and an output in float, without bias, of shape
            (G, K, F).
        quantized: the means of the quantized inputs, of shape (G, 1, K).
        floats: the means of those in float.
        rows: the number of rows that were taken.
    """

    squares: Array
    crossed: Array
    quantized: Array
    floats: Array
    rows: int

    @property
    def are_few(self) -> bool:
        """Return whether there are fewer rows than twice the inputs."""
        return self.rows < 2 * self.squares.shape[-1]

    def centred(self, weights: Array) -> Moments:
        """The moments about the means, for the weights that make the outputs."""
        means = self.quantized.transpose(0, 2, 1)
        return attrs.evolve(
            self,
            squares=self.squares - means @ self.quantized,
            crossed=self.crossed - means @ (self.floats @ weights),
        )

    def shrunk(self, weights: Array) -> Moments:
        """The moments of few rows, pulled to those of inputs without correlations.

        Rows that are fewer than twice the inputs have correlations by chance, which other
        data lacks. With all of them gone, the nearest levels are best.
        """
        inputs = self.squares.shape[-1]
        part = max(0.0, 1 - self.rows / (2 * inputs))
        own = self.squares * np.eye(inputs)
        return attrs.evolve(
            self,
            squares=(1 - part) * self.squares + part * own,
            crossed=(1 - part) * self.crossed + part * own @ weights,
        )


def gather(
    matrices: Matrices,
    weights: Array,
    batches: Iterable[Inputs],
    sizes: Sequence[int],
    samples: int,
) -> Moments | None:
    """Sum up the moments over batches; None where no call was observed.

    Args:
        matrices: the layer as matrices.
        weights: the weights in float, of shape (G, K, F).
        batches: the inputs of each batch.
        sizes: the numbers of examples in the batches.
        samples: about how many rows to take, at random positions with one seed.
    """
    groups, inputs, outputs = weights.shape
    # The outputs of each row, or of the sums: what takes fewer products.
    early = 2 * outputs < inputs
    shapes = (groups, inputs, inputs), (groups, inputs, outputs if early else inputs)
    # A multiple of the inputs, since fewer rows leave the moments singular.
    budget = max(samples, 4 * inputs)
    sums = [np.zeros(shape) for shape in shapes]
    means = [np.zeros((groups, 1, inputs)) for _ in range(2)]
    rows = 0
    # Arrays that stay in the caches, of rows that are not much fewer than the inputs.
    part_size = max(inputs, _PART // (groups * inputs))
    for number, (size, pair) in enumerate(zip(sizes, batches, strict=True)):
        for call, (in_float, quantized) in enumerate(zip(*pair, strict=True)):
            share = -(-budget * size // sum(sizes))
            chosen = _chosen(matrices.count(in_float.shape), share, (number, call))
            read = matrices.rows(in_float, in_float=True), matrices.rows(quantized)
            for start in range(0, len(chosen), part_size):
                part = chosen[start : start + part_size]
                f, q = (rows(part).astype(np.float64) for rows in read)
                sums[0] += q.transpose(0, 2, 1) @ q
                sums[1] += q.transpose(0, 2, 1) @ (f @ weights if early else f)
                ones = np.ones((1, len(part)))
                means[0] += ones @ q
                means[1] += ones @ f
            rows += len(chosen)
    if not rows:
        return None
    squares, crossed = (each / rows for each in sums)
    quantized, floats = (each / rows for each in means)
    crossed = crossed if early else crossed @ weights
    return Moments(squares, crossed, quantized, floats, rows)


def _chosen(count: int, share: int, seed: tuple[int, int]) -> NDArray[np.int64]:
    """The numbers of some rows, or of all."""
    if count <= share:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, share, replace=False))


# The numbers in an array of rows.
_PART = 2**19
