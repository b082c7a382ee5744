"""ROC of referable DR (grade >= 2) on each held-out domain, with the operating point that source validation froze.

Input: predictions and scores of the runs, lowest seed. Output: one panel per held-out domain, one curve per method.
"""

import numpy as np
import pandas as pd

from clipdr import REFERABLE
from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import aggregate
from clipdr.evaluation import predictions as prediction_files
from clipdr.evaluation.calibration import cumulative
from clipdr.evaluation.predictions import tested
from clipdr.evaluation.schema import PROBABILITIES
from clipdr.report.figures.style import WIDE, colour_and_marker, domain_label, style, suptitle

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


def read(inputs):
    """Test rows (method, held_out, grade, q = probability of grade >= 2); averages of the same runs, one seed."""
    rows, runs = [], first_seed(inputs.runs)
    for run in runs:
        columns = ["method", "held_out", "selection", "split", "grade", *PROBABILITIES]
        part = tested(prediction_files.read(run / "predictions.parquet", columns))
        rows.append(
            part[["method", "held_out", "grade"]].assign(
                q=cumulative(part[PROBABILITIES])[:, REFERABLE - 1]
            )
        )
    return pd.concat(rows), aggregate.average(aggregate.collect(runs))


def curve(event, score):
    """Points (false-positive rate, sensitivity) at every threshold, from (0, 0) to (1, 1). (N,) bool, (N,) -> (P, 2); NaN if undefined."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    with np.errstate(invalid="ignore"):
        rates = [np.cumsum(kind[order])[last] / kind.sum() for kind in (~event, event)]
    return np.concatenate([np.zeros((1, 2)), np.stack(rates, axis=1)])


def plot(content, methods, domains):
    """x = 1 - specificity, y = sensitivity, in %; the mark is the threshold with a sensitivity of at least 90 % on source validation."""
    from matplotlib.figure import Figure

    rows, averages = content
    known = averages.set_index(["method", "held_out", "metric"])["mean"].to_dict()
    columns = min(len(domains), COLUMNS)
    lines = -(-len(domains) // columns)
    with style():
        figure = Figure(figsize=(WIDE * columns / COLUMNS, 2.35 * lines + 1), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for axis in axes.flat[len(domains) :]:
            axis.set_visible(False)
        for axis, domain in zip(axes.flat, domains, strict=False):
            for number, method in enumerate(methods):
                part = rows[(rows["method"] == method) & (rows["held_out"] == domain)]
                if part.empty:
                    continue
                event = part["grade"].to_numpy() >= REFERABLE
                x, y = 100 * curve(event, part["q"].to_numpy()).T
                colour, marker = colour_and_marker(number)
                axis.plot(x, y, color=colour, linewidth=0.9, drawstyle="default")
                sensitivity, specificity = (
                    known.get((method, domain, name), np.nan)
                    for name in ("sensitivity", "specificity")
                )
                look = {
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
        for axis in axes[:, 0]:
            axis.set_ylabel("sensitivity (%)")
        for axis in axes.flat[
            max(0, len(domains) - columns) : len(domains)
        ]:  # the lowest panel of each column
            axis.set_xlabel("100 - specificity (%)")
            axis.tick_params(labelbottom=True)
        handles = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            *handles,
            loc="outside lower center",
            ncols=min(len(methods), 3 * columns),
            frameon=False,
        )
        suptitle(
            figure,
            domains,
            "referable DR (grade ≥ 2), one seed; marks: threshold frozen on source validation",
        )
    return figure
