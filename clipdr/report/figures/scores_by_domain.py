"""Scores by held-out domain: mean over seeds with its 95 % interval, one colour per method.

Input: averages of `evaluate.average`. Output: one panel per metric.
"""

import numpy as np

from clipdr import DataError
from clipdr.evaluation import aggregate
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.figures.style import (
    WIDTH,
    colour_and_marker,
    domain_kind,
    domain_label,
    style,
    suptitle,
    two_lines,
)
from clipdr.report.labels import STYLES

TITLE = "Scores by held-out domain"
CAPTION = (
    "Scores (%) on each held-out domain and their mean, with 95 % bootstrap intervals "
    "over patients."
)
SECTION = "benchmark"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True


def read(inputs):
    """Averages of the runs, with intervals."""
    return aggregate.average(aggregate.collect(inputs.runs), aggregate.collect_draws(inputs.runs))


def plot(averages, methods, domains, metrics=("auc", "qwk")):
    """One panel per metric: mean over seeds with its 95 % interval, by held-out domain and their average, one colour per method.

    averages : one protocol and selection, as `evaluate.average` returns them; a cell not run or undefined has no mark
    """
    from matplotlib.figure import Figure

    known = averages.set_index(["method", "held_out", "metric"])
    if known.index.has_duplicates:
        raise DataError("scores_by_domain: averages of several protocols or selections; choose one")
    places = [*domains, AVERAGE]
    offset = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.8 / max(len(methods), 4)
    with style():
        width = WIDTH if len(places) * len(methods) <= 60 else 1.5 * WIDTH
        figure = Figure(figsize=(width, 1.9 * len(metrics) + 0.7), layout="constrained")
        axes = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axis, metric in zip(axes, metrics, strict=True):
            factor = STYLES[metric].factor
            for index, method in enumerate(methods):
                colour, marker = colour_and_marker(index)
                at = [
                    place
                    for place in range(len(places))
                    if (method, places[place], metric) in known.index
                ]
                cells = factor * np.array(
                    [
                        known.loc[(method, places[place], metric), ["mean", "low", "high"]]
                        for place in at
                    ],
                    float,
                ).reshape(-1, 3)
                error = np.abs(cells[:, 1:] - cells[:, :1]).T
                axis.errorbar(
                    np.array(at) + offset[index], cells[:, 0], yerr=error, label=method, color=colour, marker=marker,
                    markersize=3.8, linestyle="none", elinewidth=0.9, markeredgewidth=0,
                )  # fmt: skip
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
            axis.set_xlim(-0.55, len(places) - 0.45)
        _mark_places(axes[-1], averages[averages["metric"].isin(metrics)], places)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(
            *handles, loc="outside lower center", ncols=min(len(methods), 4), frameon=False
        )
        suptitle(figure, domains, f"{domain_kind(domains)}s with 95 % bootstrap intervals")
    return figure


def _mark_places(axis, averages, places):
    """Names of the places below the axis; a sign at those whose intervals need a word, and that word."""
    without = averages["mean"].notna() & averages["low"].isna() & (averages["resamples"] > 0)
    signs = {
        "*": (
            set(averages.loc[averages["unit"] != "patient", "held_out"]),
            "patients unknown, resampled by image: interval too narrow",
        ),
        "†": (
            set(averages.loc[without, "held_out"]),
            "an interval is missing: undefined in over 5 % of the resamples (a rare grade)",
        ),
    }
    used = {sign: (names, word) for sign, (names, word) in signs.items() if names}
    axis.set_xticks(
        range(len(places)),
        [
            two_lines(domain_label(name))
            + "".join(s for s, (names, _) in used.items() if name in names)
            for name in places
        ],
    )
    axis.set_xlabel("\n".join(f"{sign} {word}" for sign, (_, word) in used.items()))
