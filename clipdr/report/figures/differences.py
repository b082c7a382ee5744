"""Paired differences: every method minus the reference, with the 95 % interval of the difference, by held-out domain and on average.

Input: comparisons.csv. Output: one panel per metric; filled marks are significant after Holm's correction.
"""

import numpy as np

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.evaluation import comparison
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.figures.style import COLOURS, WIDE, domain_kind, domain_label, style, suptitle
from clipdr.report.labels import STYLES

TITLE = "Paired differences"
CAPTION = (
    "Paired differences (points of 100) from the reference method on shared resamples of "
    "patients, with 95 % intervals."
)
SECTION = "comparisons"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

METRICS = ("auc", "qwk")
LEVEL = 0.05  # of Holm's corrected p
BY_DOMAIN = 8  # methods: of more only the averages are drawn, else the figure is longer than a page


def read(inputs):
    """comparisons.csv of the first run's protocol."""
    return comparison.read(inputs.results / "comparisons.csv", RunFolder(inputs.runs[0]).protocol)


def plot(comparisons, methods, domains):
    """A line per method and place; methods compared are those of `methods` but the reference."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = comparisons[comparisons["method"].isin(methods) & comparisons["metric"].isin(METRICS)]
    shown = [method for method in methods if method in set(rows["method"])]
    if not shown:
        raise DataError(
            "differences: no comparison with the reference among these methods; choose two methods or more, and the reference"
        )
    reference, places = (
        rows["reference"].iloc[0],
        [*domains, AVERAGE] if len(shown) <= BY_DOMAIN else [AVERAGE],
    )
    known = rows.set_index(["method", "held_out", "metric"])
    several = len(places) > 1
    step = len(places) + (1.5 if several else 0.5)  # lines of one method, and a gap
    with style():
        figure = Figure(figsize=(WIDE, 0.125 * step * len(shown) + 1.3), layout="constrained")
        axes = figure.subplots(1, len(METRICS), sharey=True)
        for axis, metric in zip(axes, METRICS, strict=True):
            for number, method in enumerate(shown):
                for line, place in enumerate(places):
                    if (method, place, metric) in known.index:
                        _line(
                            axis,
                            number * step + line,
                            known.loc[(method, place, metric)],
                            place,
                            methods.index(method),
                            STYLES[metric].factor,
                        )
            axis.axvline(0, color="0.3", linewidth=0.8)
            axis.grid(axis="y", visible=False)
            axis.set_xlabel(f"difference in {STYLES[metric].title} to {reference} (points)")
        _names(axes, shown, places, step)
        look = {"linestyle": "none", "marker": "o", "color": "0.3", "markersize": 4}
        figure.legend(
            [Line2D([], [], **look), Line2D([], [], **look, markerfacecolor="white")],
            [f"Holm's p < {LEVEL}, {len(shown)} methods", "not significant"],
            loc="outside lower center", ncols=2, frameon=False, title=_unknown(rows), title_fontsize=7,
        )  # fmt: skip
        over = "" if several else f"mean of {len(domains)} {domain_kind(domains)}s, "
        suptitle(figure, domains, f"method minus {reference}, {over}95 % intervals, {_unit(rows)}")
    return figure


def _names(axes, shown, places, step):
    """Names beside the lines: places on the left and methods on the right; of one place alone, the methods."""
    at = [number * step + line for number in range(len(shown)) for line in range(len(places))]
    axes[0].set_yticks(
        at,
        [
            domain_label(place) if len(places) > 1 else method
            for method in shown
            for place in places
        ],
    )
    for tick, place in zip(axes[0].get_yticklabels(), places * len(shown), strict=True):
        tick.set_fontweight("bold" if len(places) > 1 and place == AVERAGE else "normal")
    axes[0].set_ylim((len(shown) - 1) * step + len(places), -1)
    for number, method in enumerate(shown if len(places) > 1 else ()):
        axes[-1].text(
            1.02,
            number * step + (len(places) - 1) / 2,
            method,
            transform=axes[-1].get_yaxis_transform(),
            va="center",
            fontweight="bold",
        )


def _line(axis, at, row, place, number, factor):
    """One difference with its interval; drawn hollow unless significant."""
    colour, large = COLOURS[number % len(COLOURS)], place == AVERAGE
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
        factor * row["difference"], at, marker="D" if large else "o", markersize=4.5 if large else 3.5, color=colour,
        markerfacecolor=colour if significant else "white", markeredgewidth=0.8, zorder=3,
    )  # fmt: skip


def _unknown(rows):
    """What a mark without a line means, where there is one."""
    return (
        "a mark without a line: undefined in over 5 % of the resamples (a rare grade), not tested"
        if rows["low"].isna().any()
        else None
    )


def _unit(rows):
    """What was resampled, in words, with the number of images and clusters of the average."""
    row = (
        rows[rows["held_out"] == AVERAGE].iloc[0]
        if (rows["held_out"] == AVERAGE).any()
        else rows.iloc[0]
    )
    by = {
        "patient": "patients",
        "image": "images (patients unknown: too narrow)",
        "mixed": "patients or images (too narrow)",
    }[row["unit"]]
    return f"resampled by {by}, n\u00a0=\u00a0{row['n']} images"  # a line never ends before "="
