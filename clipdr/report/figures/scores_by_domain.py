"""Scores by held-out domain: mean over seeds with its 95 % interval, one colour per method.

Input: averages of `clipdr.evaluation.aggregate`. Output: one panel per metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipdr import DataError
from clipdr.evaluation import aggregate
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.figures.style import (
    WIDTH,
    colour_and_marker,
    domain_kind,
    domain_label,
    figure_style,
    set_domains_title,
    two_lines,
)
from clipdr.report.labels import STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "Scores by held-out domain"
CAPTION = (
    "Scores (%) on each held-out domain and their mean, with 95 % bootstrap intervals over "
    "patients."
)
SECTION = "benchmark"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True


def read(inputs: FigureInputs) -> pd.DataFrame:
    """Return the averages of the runs, with intervals."""
    return aggregate.average(aggregate.collect(inputs.runs), aggregate.collect_draws(inputs.runs))


def plot(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    metrics: Sequence[str] = ("auc", "qwk"),
) -> Figure:
    """Plot the mean over seeds of each method by held-out domain and on average.

    Args:
        averages: As `read` returns them, of one protocol and selection; a cell that was not run or
            is undefined has no mark.
        methods: Methods, in the order of their colours.
        domains: Held-out domains, in the order of the axis.
        metrics: Metrics, in the order of the panels.

    Raises:
        DataError: If the averages are of several protocols or selections.
    """
    from matplotlib.figure import Figure

    values = averages.set_index(["method", "held_out", "metric"])
    if values.index.has_duplicates:
        raise DataError(
            "figure scores_by_domain: averages of several protocols or selections. Choose one."
        )
    columns = [*domains, AVERAGE]
    offset = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.8 / max(len(methods), 4)
    with figure_style():
        width = WIDTH if len(columns) * len(methods) <= 60 else 1.5 * WIDTH
        figure = Figure(figsize=(width, 1.9 * len(metrics) + 0.7), layout="constrained")
        axes = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axis, metric in zip(axes, metrics, strict=True):
            factor = STYLES[metric].factor
            for index, method in enumerate(methods):
                colour, marker = colour_and_marker(index)
                at = [
                    column
                    for column, held_out in enumerate(columns)
                    if (method, held_out, metric) in values.index
                ]
                cells = [
                    values.loc[(method, columns[column], metric), ["mean", "low", "high"]]
                    for column in at
                ]
                points = factor * np.array(cells, float).reshape(-1, 3)
                axis.errorbar(
                    np.array(at) + offset[index],
                    points[:, 0],
                    yerr=np.abs(points[:, 1:] - points[:, :1]).T,
                    label=method,
                    color=colour,
                    marker=marker,
                    markersize=3.8,
                    linestyle="none",
                    elinewidth=0.9,
                    markeredgewidth=0,
                )
            for between in range(len(domains)):
                axis.axvline(
                    between + 0.5,
                    color="0.4" if between == len(domains) - 1 else "0.88",
                    linewidth=0.6,
                )
            axis.grid(axis="x", visible=False)
            axis.set_ylabel(
                f"{STYLES[metric].title} (%)" if factor == 100 else STYLES[metric].title
            )
            axis.set_xlim(-0.55, len(columns) - 0.45)
        _name_columns(axes[-1], averages[averages["metric"].isin(metrics)], columns)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(
            *handles, loc="outside lower center", ncols=min(len(methods), 4), frameon=False
        )
        set_domains_title(figure, domains, f"{domain_kind(domains)}s with 95 % bootstrap intervals")
    return figure


def _name_columns(axis: Axes, averages: pd.DataFrame, columns: Sequence[str]) -> None:
    """Name the columns below the axis, with a sign and its note where an interval needs one."""
    missing = averages["mean"].notna() & averages["low"].isna() & (averages["resamples"] > 0)
    signs = {
        "*": (
            set(averages.loc[averages["unit"] != "patient", "held_out"]),
            "patients unknown, resampled by image: interval too narrow",
        ),
        "†": (
            set(averages.loc[missing, "held_out"]),
            "an interval is missing: undefined in over 5 % of the resamples (a rare grade)",
        ),
    }
    used = {sign: (names, note) for sign, (names, note) in signs.items() if names}
    axis.set_xticks(
        range(len(columns)),
        [
            two_lines(domain_label(name))
            + "".join(sign for sign, (names, _) in used.items() if name in names)
            for name in columns
        ],
    )
    axis.set_xlabel("\n".join(f"{sign} {note}" for sign, (_, note) in used.items()))
