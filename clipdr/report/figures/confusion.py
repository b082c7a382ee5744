"""Confusion matrices: predicted grade by true grade, over the test images of all held-out domains.

Input: predictions of the runs, lowest seed. Output: one panel per method, rows in percent of the
images of the true grade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import GRADES
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import predictions
from clipdr.evaluation.schema import PROBABILITIES
from clipdr.report.figures.style import WIDE, domain_kind, figure_style, set_domains_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "Confusion matrices"
CAPTION = (
    "Images by true grade (rows) and most probable grade (columns), in % of the row, over "
    "the held-out domains."
)
SECTION = "confusion"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

COLUMNS = 3  # panels side by side
LOOK: dict[str, Any] = {
    "vmin": 0,
    "vmax": 100,
    "cmap": "crest",
    "cbar": False,
    "square": True,
    "linewidths": 0.5,
}


def read(inputs: FigureInputs) -> pd.DataFrame:
    """Return method, grade and p0 to p4 of every test image of the lowest seed."""
    columns = ["method", "selection", "split", "grade", *PROBABILITIES]
    return pd.concat(
        [
            predictions.tested(predictions.read(run / "predictions.parquet", columns))
            for run in first_seed(inputs.runs)
        ]
    )


def confusion(rows: pd.DataFrame) -> np.ndarray:
    """Count images by true and most probable grade; on a tie the lower grade counts.

    Args:
        rows: grade and p0 to p4 of N images.

    Returns:
        (5, 5) int64, rows = true grade, columns = most probable grade.
    """
    predicted = rows[PROBABILITIES].to_numpy(np.float64).argmax(axis=1)
    matrix = np.zeros((len(GRADES), len(GRADES)), np.int64)
    np.add.at(matrix, (rows["grade"].to_numpy(), predicted), 1)
    return matrix


def plot(rows: pd.DataFrame, methods: Sequence[str], domains: Sequence[str]) -> Figure:
    """Plot one confusion matrix per method, with the number of images beside each row.

    Args:
        rows: As `read` returns them.
        methods: Methods, in the order of the panels.
        domains: Held-out domains, for the title.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    lines = -(-len(methods) // COLUMNS)
    columns = min(len(methods), COLUMNS)
    with figure_style():
        size = (WIDE * (0.1 + 0.3 * columns), 2.2 * lines + 0.35)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis in axes.flat[len(methods) :]:
            axis.set_visible(False)
        for axis, method in zip(axes.flat, methods, strict=False):
            matrix = confusion(rows[rows["method"] == method])
            count = matrix.sum(axis=1)
            with np.errstate(invalid="ignore"):
                share = 100 * matrix / count[:, None]
            text = [["" if np.isnan(value) else f"{value:.0f}" for value in line] for line in share]
            sns.heatmap(share, ax=axis, annot=np.array(text), fmt="", annot_kws={"size": 7}, **LOOK)
            axis.set_title(method)
            axis.set_xlabel("most probable grade")
            axis.set_yticklabels([f"{g}\nn={n}" for g, n in enumerate(count)], rotation=0)
            axis.set_ylabel("true grade")
            axis.tick_params(length=0)
            axis.grid(visible=False)
        bar = figure.colorbar(axes.flat[0].collections[0], ax=axes, shrink=0.6, aspect=25, pad=0.02)
        bar.set_label("% of the true grade's images")
        bar.outline.set_visible(False)
        kind = domain_kind(domains)
        title = f"grade given by true grade, {len(domains)} {kind}s together, one seed"
        set_domains_title(figure, domains, title)
    return figure
