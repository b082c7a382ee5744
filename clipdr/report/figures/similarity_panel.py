"""Panel of one similarity matrix, shared by the figures of similarity matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipdr import GRADES
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import predictions
from clipdr.evaluation.similarity import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.patches import Rectangle

    from clipdr.report.figures.catalog import FigureInputs


def read(inputs: FigureInputs) -> list[pd.DataFrame]:
    """Return the predictions of the lowest seed of each method and held-out domain."""
    return [
        predictions.read(run / "predictions.parquet", COLUMNS) for run in first_seed(inputs.runs)
    ]


def panel(
    axis: Axes, matrix: np.ndarray, ends: tuple[float, float], form: Callable[[float], str]
) -> None:
    """Plot a matrix as a heat map with its values and a frame around the true grade's text.

    Args:
        axis: Axes to plot into.
        matrix: (5, 5) float64, rows = true grade, columns = grade of the text; NaN: n/a.
        ends: Smallest and largest value of the colour scale.
        form: Function that formats a value.
    """
    import seaborn as sns

    text = np.vectorize(lambda value: "n/a" if np.isnan(value) else form(value), otypes=[object])(
        matrix
    )
    look: dict[str, Any] = {
        "vmin": ends[0],
        "vmax": ends[1],
        "cmap": "crest",
        "cbar": False,
        "square": True,
        "linewidths": 0.5,
    }
    sns.heatmap(matrix, ax=axis, annot=text, fmt="", annot_kws={"size": 7}, **look)
    for g in range(len(GRADES)):
        axis.add_patch(_frame(g))
    for row, column in np.argwhere(np.isnan(matrix)):  # the heat map leaves masked cells blank
        axis.text(column + 0.5, row + 0.5, "n/a", ha="center", va="center", size=7)
    axis.tick_params(length=0)
    axis.grid(visible=False)


def colour_bar(figure: Figure | SubFigure, axes: np.ndarray, **options: Any) -> None:
    """Add the colour scale of panels that share it; options are those of Figure.colorbar."""
    bar = figure.colorbar(axes.flat[0].collections[0], ax=axes, **options)
    bar.set_label("mean cosine")
    bar.outline.set_visible(False)


def _frame(g: int) -> Rectangle:
    """Frame of the cell of a true grade and its own text."""
    from matplotlib.patches import Rectangle

    return Rectangle(
        (g + 0.04, g + 0.04), 0.92, 0.92, fill=False, edgecolor="#FFB000", linewidth=1.2
    )
