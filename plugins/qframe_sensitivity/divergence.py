"""The divergence of predicted distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.passes import SensitivityMetric
from qframe_sensitivity import distributions


class KL(SensitivityMetric):
    r"""The Kullback-Leibler divergence of the predicted distributions, in nats.

    .. math:: \mathrm{KL} = \frac{1}{N} \sum_n \sum_c p_{nc} \log \frac{p_{nc}}{q_{nc}}

    p are the probabilities of the reference, q those of the model with one layer in few
    bits, and the mean is over the examples, and over positions if there are any. Outputs of
    a sigmoid are a distribution each, whose divergences are added. It needs no labels.

    Args:
        form: what the outputs are: ``"softmax"``, probabilities that add up to 1;
            ``"sigmoid"``, a probability each; ``"logits"``, of which the softmax is taken,
            or the sigmoid of a single one. Default ``"auto"``: by the function at the end
            of the model; if that is not known, probabilities where the outputs add up to
            1, else logits.

    Raises:
        ArgumentError: `form` has another value.
        DataError: in a call, the outputs are not of that form.

    Example:
        >>> import numpy as np
        >>> from qframe_sensitivity.divergence import KL
        >>> half, quarter = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
        >>> round(KL()(half, quarter, None, "softmax"), 4)
        0.1438

    Paper: Cai et al., 2020, https://arxiv.org/abs/2001.00281
    """

    def __init__(self, form: str = "auto") -> None:
        self.form = distributions.checked_form("KL", form)

    def __call__(
        self, reference: Any, outputs: Any, labels: Any, activation: str | None
    ) -> float:
        form = self._form(reference, activation)
        p, q = (distributions.log_probabilities(x, form) for x in (reference, outputs))
        divergence = (np.exp(p) * (p - q)).sum(-1)
        if p.ndim > reference.ndim:  # of each number
            divergence = divergence.reshape(-1, reference.shape[-1]).sum(-1)
        return float(divergence.mean())

    def assumption(self, reference: Any, activation: str | None) -> str:
        form = self._form(reference, activation)
        distributions.check_form(reference, form)
        return distributions.text_of(reference, form)

    def _form(self, reference: Any, activation: str | None) -> str:
        if self.form != "auto":
            return self.form
        return distributions.form_of(reference, activation)
