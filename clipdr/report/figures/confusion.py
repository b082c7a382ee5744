"""Confusion matrices: which grade the images of each true grade were given, all held-out test images together.

Input: predictions of the runs, lowest seed. Output: one panel per method, rows in percent of the true grade's images.
"""

import numpy as np
import pandas as pd

from clipdr import GRADES
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import predictions as prediction_files
from clipdr.evaluation.predictions import tested
from clipdr.evaluation.schema import PROBABILITIES
from clipdr.report.figures.style import WIDE, domain_kind, style, suptitle

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


def read(inputs):
    """method, grade, p0..p4 of every test image of the lowest seed."""
    columns = ["method", "selection", "split", "grade", *PROBABILITIES]
    return pd.concat(
        [
            tested(prediction_files.read(run / "predictions.parquet", columns))
            for run in first_seed(inputs.runs)
        ]
    )


def confusion(rows):
    """(5, 5) int64: images of true grade (row) whose most probable grade is the column (the lower one on a tie)."""
    given = rows[PROBABILITIES].to_numpy(np.float64).argmax(axis=1)
    matrix = np.zeros((len(GRADES), len(GRADES)), np.int64)
    np.add.at(matrix, (rows["grade"].to_numpy(), given), 1)
    return matrix


def plot(rows, methods, domains):
    """One panel per method: share of the images of each true grade (rows) given each grade (columns), and the number behind each row."""
    import seaborn as sns
    from matplotlib.figure import Figure

    lines = -(-len(methods) // COLUMNS)
    columns = min(len(methods), COLUMNS)
    with style():
        figure = Figure(
            figsize=(WIDE * (0.1 + 0.3 * columns), 2.2 * lines + 0.35), layout="constrained"
        )
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis in axes.flat[len(methods) :]:
            axis.set_visible(False)
        for axis, method in zip(axes.flat, methods, strict=False):
            matrix = confusion(rows[rows["method"] == method])
            count = matrix.sum(axis=1)
            with np.errstate(invalid="ignore"):
                share = 100 * matrix / count[:, None]
            text = [["" if np.isnan(value) else f"{value:.0f}" for value in line] for line in share]
            look = {
                "vmin": 0,
                "vmax": 100,
                "cmap": "crest",
                "cbar": False,
                "square": True,
                "linewidths": 0.5,
            }
            sns.heatmap(share, ax=axis, annot=np.array(text), fmt="", annot_kws={"size": 7}, **look)
            axis.set_title(method)
            axis.set_xlabel("most probable grade")
            axis.set_yticklabels([f"{g}\nn={n}" for g, n in enumerate(count)], rotation=0)
            axis.set_ylabel("true grade")
            axis.tick_params(length=0)
            axis.grid(visible=False)
        bar = figure.colorbar(axes.flat[0].collections[0], ax=axes, shrink=0.6, aspect=25, pad=0.02)
        bar.set_label("% of the true grade's images")
        bar.outline.set_visible(False)
        suptitle(
            figure,
            domains,
            f"grade given by true grade, {len(domains)} {domain_kind(domains)}s together, one seed",
        )
    return figure
