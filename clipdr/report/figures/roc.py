"""ROC curves of referable DR (grade >= 2) with the operating point fitted on source validation.

Input: predictions and scores of the runs, lowest seed. Output: one panel per held-out domain, one
curve per method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import REFERABLE
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import aggregate, predictions
from clipdr.evaluation.calibration import cumulative
from clipdr.evaluation.schema import PROBABILITIES
from clipdr.report.figures.style import (
    WIDE,
    colour_and_marker,
    domain_label,
    figure_style,
    set_domains_title,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "ROC of referable DR"
CAPTION = (
    "ROC of referable DR (grade >= 2): sensitivity (%) against 1 - specificity (%), with "
    "the threshold frozen on source validation."
)
SECTION = "referable"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

COLUMNS = 3  # panels side by side


def read(inputs: FigureInputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the predictions and scores of the lowest seed.

    Returns:
        Test rows (method, held_out, grade, q = probability of grade >= 2), and averages of the same
        runs.
    """
    rows, runs = [], first_seed(inputs.runs)
    columns = ["method", "held_out", "selection", "split", "grade", *PROBABILITIES]
    for run in runs:
        part = predictions.tested(predictions.read(run / "predictions.parquet", columns))
        q = cumulative(part[PROBABILITIES])[:, REFERABLE - 1]
        rows.append(part[["method", "held_out", "grade"]].assign(q=q))
    return pd.concat(rows), aggregate.average(aggregate.collect(runs))


def curve(event: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Compute the ROC curve at every threshold.

    Args:
        event: (N,) bool.
        score: (N,) float64, larger for a likelier event.

    Returns:
        (P, 2) float64: false-positive rate and sensitivity, from (0, 0) to (1, 1); NaN where
        undefined.
    """
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    with np.errstate(invalid="ignore"):
        rates = [np.cumsum(kind[order])[last] / kind.sum() for kind in (~event, event)]
    return np.concatenate([np.zeros((1, 2)), np.stack(rates, axis=1)])


def plot(
    content: tuple[pd.DataFrame, pd.DataFrame], methods: Sequence[str], domains: Sequence[str]
) -> Figure:
    """Plot sensitivity against 1 - specificity, in %.

    The mark is the threshold with a sensitivity of at least 90 % on source validation.

    Args:
        content: As `read` returns it.
        methods: Methods, in the order of their colours.
        domains: Held-out domains, in the order of the panels.
    """
    from matplotlib.figure import Figure

    rows, averages = content
    means = averages.set_index(["method", "held_out", "metric"])["mean"].to_dict()
    columns = min(len(domains), COLUMNS)
    lines = -(-len(domains) // columns)
    with figure_style():
        figure = Figure(figsize=(WIDE * columns / COLUMNS, 2.35 * lines + 1), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for axis in axes.flat[len(domains) :]:
            axis.set_visible(False)
        for axis, domain in zip(axes.flat, domains, strict=False):
            _panel(axis, rows[rows["held_out"] == domain], means, methods, domain)
        for axis in axes[:, 0]:
            axis.set_ylabel("sensitivity (%)")
        # the lowest panel of each column
        for axis in axes.flat[max(0, len(domains) - columns) : len(domains)]:
            axis.set_xlabel("100 - specificity (%)")
            axis.tick_params(labelbottom=True)
        handles = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            *handles,
            loc="outside lower center",
            ncols=min(len(methods), 3 * columns),
            frameon=False,
        )
        set_domains_title(
            figure,
            domains,
            "referable DR (grade ≥ 2), one seed; marks: threshold frozen on source validation",
        )
    return figure


def _panel(
    axis: Axes,
    rows: pd.DataFrame,
    means: Mapping[tuple[str, str, str], float],
    methods: Sequence[str],
    domain: str,
) -> None:
    """Plot the curves of all methods on one held-out domain."""
    event = np.empty(0, bool)
    for number, method in enumerate(methods):
        part = rows[rows["method"] == method]
        if part.empty:
            continue
        event = part["grade"].to_numpy() >= REFERABLE
        x, y = 100 * curve(event, part["q"].to_numpy()).T
        colour, marker = colour_and_marker(number)
        axis.plot(x, y, color=colour, linewidth=0.9, drawstyle="default")
        sensitivity, specificity = (
            means.get((method, domain, name), np.nan) for name in ("sensitivity", "specificity")
        )
        look: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": 5,
            "markeredgecolor": "black",
        }
        axis.plot(
            100 - 100 * specificity,
            100 * sensitivity,
            **look,
            linestyle="none",
            markeredgewidth=0.5,
            label=method,
            zorder=3,
        )
    axis.plot([0, 100], [0, 100], color="0.7", linewidth=0.7, zorder=1)
    axis.set_title(f"{domain_label(domain)}\n{len(event)} images, {event.sum()} referable")
    axis.set_aspect("equal")
    axis.set_xlim(-2, 102)
    axis.set_ylim(-2, 102)
