"""All that is known of a quantized model, on one page."""

from __future__ import annotations

from typing import Any

import attrs
import keras

import qframe
from qframe.models import grids, profile
from qframe.models.model_profile import ModelProfile
from qframe.paths import AnyPath, OutputPath
from qframe.reports.activations import ActivationReport, activations_of
from qframe.reports.drawing import picture_of
from qframe.reports.markup import Element
from qframe.reports.page import page_of
from qframe.reports.shapes import check_data, check_model
from qframe.reports.weights import WeightReport, weights_of
from qframe.tables import Table

_NOISE = ("SQNR\n(dB)", "Relative\nerror", "Cosine")


@attrs.frozen(eq=False)
class ModelReport:
    """What a quantized model costs, and what quantization does to it.

    Args:
        profile: bits, memory and multiply-accumulates.
        weights: each quantized weight before and after, in call order.
        activations: each layer against its float twin, the worst first; None without data.
        picture: the graph of the model.
    """

    profile: ModelProfile
    weights: tuple[WeightReport, ...]
    activations: tuple[ActivationReport, ...] | None
    picture: Element = attrs.field(repr=False)

    @property
    def made_with(self) -> str:
        """The versions that the figures are from."""
        return (
            f"Made by qframe {qframe.__version__} with Keras {keras.__version__} on "
            f"{keras.backend.backend()}."
        )

    @property
    def html(self) -> str:
        """The page, complete in itself."""
        return page_of(self)

    def save(self, path: AnyPath, *, force: bool = True) -> None:
        """Write the page to a ``.html`` file, whole or not at all.

        Args:
            path: where it goes.
            force: replace a file that is there already. Default True.

        Raises:
            OutputError: it cannot be written there.
        """
        html = self.html
        target = OutputPath.check(path, ".html", force=force)
        target.write(lambda draft: draft.write_text(html, "utf-8"))

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON types; None stands for what is not known."""
        rows = self.activations
        return {
            "profile": self.profile.to_dict(),
            "weights": [weight.to_dict() for weight in self.weights],
            "activations": None if rows is None else [row.to_dict() for row in rows],
        }

    def figures(self) -> list[tuple[str, str]]:
        """The figures of the whole model, by name."""
        rows = grids.summary_grid(self.profile).rows
        return [(name, text) for name, text in rows]

    def layers_grid(self) -> Table:
        """What each layer costs."""
        return grids.layers_grid(self.profile)

    def weights_grid(self) -> Table:
        """What quantization does to each weight."""
        header = ["Weight", "Quantizer", "Bits", "Numbers", *_NOISE, "Saturated\n(%)"]
        rows = [
            [
                w.path,
                w.quantizer,
                "?" if w.bits is None else str(w.bits),
                str(w.count),
                *w.noise.cells(),
                f"{100 * w.saturation:.2f}",
            ]
            for w in self.weights
        ]
        return Table("weights", header, rows)

    def activations_grid(self) -> Table:
        """What quantization does to what each layer returns."""
        slots = ("input", "output")
        header = ["Layer", "Class", *_NOISE, "Float\nfrom", "Float\nto"]
        header += ["Quantized\nfrom", "Quantized\nto"]
        header += [f"{slot.capitalize()}\nsaturated (%)" for slot in slots]
        rows = [
            [
                row.path,
                row.kind,
                *row.noise.cells(),
                *(f"{end:.4g}" for end in (*row.float_range, *row.range)),
                *(
                    f"{100 * row.saturation[slot]:.2f}" if slot in row.saturation else "-"
                    for slot in slots
                ),
            ]
            for row in self.activations or ()
        ]
        return Table("activations", header, rows)

    def _repr_html_(self) -> str:

        found = [self.weights_grid()]
        if self.activations is not None:
            found.append(self.activations_grid())
        return self.profile._repr_html_() + "\n".join(map(tables.to_html, found))


def report_of(
    model: Any, data: Any = None, *, batch_size: int | None, verbose: Any
) -> ModelReport:
    """The report of a built model, with data or without."""
    check_model(model, "report")
    costs = profile(model)
    activations = None
    if data is not None:
        check_data(model, data)
        activations = activations_of(model, data, batch_size=batch_size, verbose=verbose)
    return ModelReport(costs, weights_of(model), activations, picture_of(model, costs))
