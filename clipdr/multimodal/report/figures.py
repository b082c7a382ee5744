"""Figures of the multimodal system: recall with its upper bound, and grades without a modality.

Input: rows of retrieval.csv, leaky.csv and curves.csv. Output: matplotlib figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr.multimodal.evaluation.leaky_protocol import LEAKY
from clipdr.report.figures.style import COLOURS, figure_style, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Rows = Sequence[Mapping[str, Any]]

RED = "#A3262A"  # of everything leaky


def recall_figure(rows: Rows, leaky: Rows, synthetic: bool) -> Figure:
    """Plot strict text-to-image R@1 of every mode with its upper bound.

    Args:
        rows: Rows of retrieval.csv.
        leaky: Rows of leaky.csv. They stand in a panel of their own, labelled LEAKY.
        synthetic: Whether the images are synthetic.
    """
    from matplotlib.figure import Figure

    unimodal = [
        row
        for row in rows
        if row["direction"] == "text_to_image" and row["mode"] in ("dual", "rerank")
    ]
    leaky = [row for row in leaky if row["direction"] == "text_to_image"]
    with figure_style():
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        widths = [max(len(unimodal), 2), max(len(leaky), 2)]
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=widths)
        _bars(left, unimodal, COLOURS[0])
        left.set_title("Each encoder sees one modality")
        _bars(right, leaky, RED)
        right.set_title(f"{LEAKY}: fused_paper,\nnot retrieval", color=RED)
        left.set_ylabel("strict text to image R@1 (%)")
        handles, labels = (left if unimodal else right).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", frameon=False)
        set_title(figure, "recall and its upper bound", synthetic)
    return figure


def _bars(axis: Axes, rows: Rows, colour: str) -> None:
    """Bars of R@1 in %, with lines at the upper bounds."""
    at = np.arange(len(rows))
    bounds = [100 * row.get("honest_ceiling_1", row["ceiling_1"]) for row in rows]
    axis.bar(at, [100 * row["recall_1"] for row in rows], 0.55, color=colour)
    label = "upper bound for these texts"
    axis.hlines(bounds, at - 0.35, at + 0.35, color="black", linewidth=1, label=label)
    axis.set_xticks(at, [f"{row['model']}\n{row['mode']}" for row in rows])


def curve_figure(rows: Rows, synthetic: bool) -> Figure:
    """Plot QWK of both scales against the share of test eyes without a modality.

    Args:
        rows: Rows of curves.csv.
        synthetic: Whether the images are synthetic.
    """
    from matplotlib.figure import Figure

    frame = pd.DataFrame(rows)
    with figure_style():
        figure = Figure(figsize=(6.4, 2.4), layout="constrained")
        axis = figure.subplots()
        groups = frame.groupby(["model", "modality", "scale"])
        for number, ((model, modality, scale), part) in enumerate(groups):
            axis.plot(
                100 * part["share"],
                100 * part["qwk"],
                marker="o",
                markersize=3,
                color=COLOURS[number % len(COLOURS)],
                label=f"{model}, {str(scale).upper()}, {modality} absent",
            )
        axis.set_xlabel("test eyes without the modality (%)")
        axis.set_ylabel("QWK x 100")
        figure.legend(loc="outside right center", frameon=False, fontsize=6)
        set_title(figure, "grades without a modality", synthetic)
    return figure
