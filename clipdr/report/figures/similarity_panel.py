"""TODO"""

import numpy as np

from clipdr import GRADES
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import predictions as prediction_files
from clipdr.evaluation.similarity import COLUMNS


def read(inputs):
    """Predictions of the lowest seed of each method and held-out domain."""
    return [
        prediction_files.read(run / "predictions.parquet", COLUMNS)
        for run in first_seed(inputs.runs)
    ]


def panel(axis, matrix, ends, printed):
    """One matrix as a heat map with its values; rows = true grade, the text of the true grade framed.

    ends : of the colour scale;  printed : value -> str
    """
    import seaborn as sns

    text = np.vectorize(
        lambda value: "n/a" if np.isnan(value) else printed(value), otypes=[object]
    )(matrix)
    look = {
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


def colour_bar(figure, axes, **place):
    """The colour scale of panels that share it. place : keywords of Figure.colorbar"""
    bar = figure.colorbar(axes.flat[0].collections[0], ax=axes, **place)
    bar.set_label("mean cosine")
    bar.outline.set_visible(False)


def _frame(g):
    """The outline that marks the text of the true grade."""
    from matplotlib.patches import Rectangle

    return Rectangle(
        (g + 0.04, g + 0.04), 0.92, 0.92, fill=False, edgecolor="#FFB000", linewidth=1.2
    )
