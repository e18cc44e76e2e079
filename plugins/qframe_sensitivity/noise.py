"""The noise in outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.errors import DataError
from qframe.passes import SensitivityMetric


class SQNR(SensitivityMetric):
    r"""The noise in the outputs by their signal, which tables show in decibels.

    .. math:: \frac{1}{\mathrm{SQNR}} = \frac{\sum (q - y)^2}{\sum y^2}

    y are the outputs of the reference, q those of the model with one layer in few bits.
    Noise from several layers about adds up, which decibels do not. It needs no labels, and
    suits outputs that are not classes.

    Raises:
        DataError: in a call, all outputs of the reference are 0.

    Example:
        >>> import numpy as np
        >>> from qframe_sensitivity.noise import SQNR
        >>> SQNR()(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]]), None, None)
        0.01
    """

    decibels = True

    def __call__(
        self, reference: Any, outputs: Any, labels: Any, activation: str | None
    ) -> float:
        noise = np.square(outputs - reference).sum()
        return float(noise / np.square(reference).sum())

    def assumption(self, reference: Any, activation: str | None) -> str:
        if not np.any(reference):
            raise DataError(
                "every output is 0, which leaves no signal to compare the noise with. Give "
                "other examples, or another metric."
            )
        return ""
