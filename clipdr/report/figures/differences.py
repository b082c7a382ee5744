"""Paired differences: every method minus the reference, by held-out domain and on average.

Input: comparisons.csv. Output: one panel per metric with 95 % intervals of the differences; filled
marks are significant after Holm's correction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.evaluation import comparison
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.figures.style import (
    COLOURS,
    WIDE,
    domain_kind,
    domain_label,
    figure_style,
    set_domains_title,
)
from clipdr.report.labels import STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "Paired differences"
CAPTION = (
    "Paired differences (percentage points) from the reference method on shared resamples of "
    "patients, with 95 % intervals."
)
SECTION = "comparisons"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

METRICS = ("auc", "qwk")
LEVEL = 0.05  # of Holm's corrected p
BY_DOMAIN = 8  # methods; with more of them only the averages fit on a page


def read(inputs: FigureInputs) -> pd.DataFrame:
    """Return the rows of comparisons.csv of the first run's protocol."""
    return comparison.read(inputs.results / "comparisons.csv", RunFolder(inputs.runs[0]).protocol)


def plot(comparisons: pd.DataFrame, methods: Sequence[str], domains: Sequence[str]) -> Figure:
    """Plot a line per method and domain.

    Args:
        comparisons: As `read` returns them.
        methods: Methods, in the order of the lines; the reference has no line.
        domains: Held-out domains, in the order of the lines.

    Raises:
        DataError: If no method is compared with the reference.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = comparisons[comparisons["method"].isin(methods) & comparisons["metric"].isin(METRICS)]
    compared = [method for method in methods if method in set(rows["method"])]
    if not compared:
        raise DataError(
            "figure differences: no comparison with the reference among these methods. "
            "Choose at least one method and the reference."
        )
    reference = rows["reference"].iloc[0]
    lines = [*domains, AVERAGE] if len(compared) <= BY_DOMAIN else [AVERAGE]
    values = rows.set_index(["method", "held_out", "metric"])
    several = len(lines) > 1
    step = len(lines) + (1.5 if several else 0.5)  # lines of one method, and a gap
    with figure_style():
        size = (WIDE, 0.125 * step * len(compared) + 1.3)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(METRICS), sharey=True)
        for axis, metric in zip(axes, METRICS, strict=True):
            for number, method in enumerate(compared):
                colour = COLOURS[methods.index(method) % len(COLOURS)]
                for line, held_out in enumerate(lines):
                    if (method, held_out, metric) in values.index:
                        row = values.loc[(method, held_out, metric)]
                        at, large = number * step + line, held_out == AVERAGE
                        _line(axis, at, row, large, colour, STYLES[metric].factor)
            axis.axvline(0, color="0.3", linewidth=0.8)
            axis.grid(axis="y", visible=False)
            axis.set_xlabel(f"difference in {STYLES[metric].title} to {reference} (points)")
        _names(axes, compared, lines, step)
        look: dict[str, Any] = {
            "linestyle": "none",
            "marker": "o",
            "color": "0.3",
            "markersize": 4,
        }
        figure.legend(
            [Line2D([], [], **look), Line2D([], [], **look, markerfacecolor="white")],
            [f"Holm's p < {LEVEL}, {len(compared)} methods", "not significant"],
            loc="outside lower center",
            ncols=2,
            frameon=False,
            title=_without_interval(rows),
            title_fontsize=7,
        )
        over = "" if several else f"mean of {len(domains)} {domain_kind(domains)}s, "
        set_domains_title(
            figure, domains, f"method minus {reference}, {over}95 % intervals, {_unit(rows)}"
        )
    return figure


def _names(axes: Sequence[Axes], methods: Sequence[str], lines: Sequence[str], step: float) -> None:
    """Name the lines: domains on the left and methods on the right; for one line per method, it."""
    several = len(lines) > 1
    at = [number * step + line for number in range(len(methods)) for line in range(len(lines))]
    names = [domain_label(name) if several else method for method in methods for name in lines]
    axes[0].set_yticks(at, names)
    for tick, name in zip(axes[0].get_yticklabels(), [*lines] * len(methods), strict=True):
        tick.set_fontweight("bold" if several and name == AVERAGE else "normal")
    axes[0].set_ylim((len(methods) - 1) * step + len(lines), -1)
    for number, method in enumerate(methods if several else ()):
        axes[-1].text(
            1.02,
            number * step + (len(lines) - 1) / 2,
            method,
            transform=axes[-1].get_yaxis_transform(),
            va="center",
            fontweight="bold",
        )


def _line(axis: Axes, at: float, row: pd.Series, large: bool, colour: str, factor: float) -> None:
    """Plot one difference with its interval; hollow unless significant, large for an average."""
    low, high = factor * row["low"], factor * row["high"]
    if not np.isnan(low):
        axis.plot(
            [low, high],
            [at, at],
            color=colour,
            linewidth=1.6 if large else 0.9,
            solid_capstyle="butt",
        )
    significant = row["p_holm"] < LEVEL
    axis.plot(
        factor * row["difference"],
        at,
        marker="D" if large else "o",
        markersize=4.5 if large else 3.5,
        color=colour,
        markerfacecolor=colour if significant else "white",
        markeredgewidth=0.8,
        zorder=3,
    )


def _without_interval(rows: pd.DataFrame) -> str | None:
    """Explain a mark without a line, where there is one."""
    text = (
        "a mark without a line: undefined in over 5 % of the resamples (a rare grade), not tested"
    )
    return text if rows["low"].isna().any() else None


def _unit(rows: pd.DataFrame) -> str:
    """Name the resampled unit and the number of images of the average."""
    averages = rows[rows["held_out"] == AVERAGE]
    row = (averages if len(averages) else rows).iloc[0]
    by = {
        "patient": "patients",
        "image": "images (patients unknown: too narrow)",
        "mixed": "patients or images (too narrow)",
    }[row["unit"]]
    return f"resampled by {by}, n\u00a0=\u00a0{row['n']} images"  # a line never ends before "="
