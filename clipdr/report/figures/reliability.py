"""Reliability curves: observed share of grade >= k against its predicted probability.

Input: predictions and operating.json of the runs (lowest seed), and the averages of all seeds.
Output: a row of panels per method, one per threshold of the scale, before and after temperature
scaling.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import aggregate, calibration, predictions, schema
from clipdr.evaluation.calibration import BINS, THRESHOLDS
from clipdr.evaluation.schema import AVERAGE, PROBABILITIES
from clipdr.report.figures.style import COLOURS, WIDE, domain_kind, figure_style, set_domains_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipdr.report.figures.catalog import FigureInputs

TITLE = "Reliability curves"
CAPTION = (
    "Share of images with grade >= k (%) against the predicted probability (%), before and "
    "after temperature scaling."
)
SECTION = "calibration"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

STAGES = {  # name -> suffix of the measure, colour, mark
    "before": ("", COLOURS[1], "o"),
    "after": ("_t", COLOURS[0], "s"),
}
TEMPERED = [f"t{column}" for column in PROBABILITIES]


def read(inputs: FigureInputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the predictions of the lowest seed and the averages of all seeds.

    Returns:
        Test rows with p0 to p4 before and tp0 to tp4 after the temperature of their own run (NaN
        where the run has none); and the averages.
    """
    rows = []
    columns = ["method", "selection", "split", "grade", *PROBABILITIES]
    for run in first_seed(inputs.runs):
        part = predictions.tested(predictions.read(run / "predictions.parquet", columns))
        operating = schema.of_headline(json.loads((run / "operating.json").read_text()))
        temperature = operating["temperature"] if operating else None
        before = part[PROBABILITIES].to_numpy(np.float64)
        after = (
            np.full_like(before, np.nan)
            if temperature is None
            else calibration.temper(before, temperature)
        )
        rows.append(part.assign(**dict(zip(TEMPERED, after.T, strict=True))))
    return pd.concat(rows), aggregate.average(aggregate.collect(inputs.runs))


def plot(
    content: tuple[pd.DataFrame, pd.DataFrame], methods: Sequence[str], domains: Sequence[str]
) -> Figure:
    """Plot mean predicted probability of each bin against the share of images with grade >= k.

    The area of a mark grows with the number of its images.

    Args:
        content: As `read` returns it.
        methods: Methods, in the order of the rows.
        domains: Held-out domains, for the title.
    """
    from matplotlib.figure import Figure

    rows, averages = content
    means = (
        averages[averages["held_out"] == AVERAGE].set_index(["method", "metric"])["mean"].to_dict()
    )
    with figure_style():
        figure = Figure(figsize=(WIDE, 1.75 * len(methods) + 0.75), layout="constrained")
        axes = figure.subplots(
            len(methods), len(THRESHOLDS), sharex=True, sharey=True, squeeze=False
        )
        for line, method in zip(axes, methods, strict=True):
            part = rows[rows["method"] == method]
            for axis, k in zip(line, THRESHOLDS, strict=True):
                _panel(axis, part, k)
                before, after = (
                    _percent(means.get((method, f"ece_{k}{suffix}"), np.nan))
                    for suffix, *_ in STAGES.values()
                )
                axis.text(0.03, 0.97, f"ECE {before} → {after}", transform=axis.transAxes, va="top")
            line[0].set_ylabel(f"{method}\nshare that came true")
        for axis, k in zip(axes[0], THRESHOLDS, strict=True):
            axis.set_title(f"grade ≥ {k}")
        for axis in axes[-1]:
            axis.set_xlabel("predicted probability")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )
        n = len(rows[rows["method"] == methods[0]])
        of = f"{n} images of {len(domains)} {domain_kind(domains)}s"
        set_domains_title(
            figure, domains, f"reliability, {of}; ECE in %, {BINS} bins, mean over domains"
        )
    return figure


def _percent(value: float) -> str:
    """A share in percent, n/a where undefined."""
    return "n/a" if np.isnan(value) else f"{100 * value:.1f}"


def _panel(axis: Axes, rows: pd.DataFrame, k: int) -> None:
    """Plot both curves of one method and threshold."""
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=1)
    for (name, (_, colour, mark)), columns in zip(
        STAGES.items(), (PROBABILITIES, TEMPERED), strict=True
    ):
        part = rows.dropna(subset=columns)
        points = np.empty((0, 3))
        if len(part):
            probability = part[columns].to_numpy(np.float64)
            points = calibration.reliability(part["grade"].to_numpy(), probability, k)
        axis.plot(points[:, 0], points[:, 1], color=colour, linewidth=0.8, zorder=2)
        axis.scatter(
            points[:, 0],
            points[:, 1],
            s=3 + 60 * points[:, 2] / max(len(part), 1),
            color=colour,
            marker=mark,
            linewidths=0,
            alpha=0.85,
            zorder=3,
            label=f"{name} the temperature fitted on source validation",
        )
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(-0.03, 1.18)
    axis.set_xticks([0, 0.5, 1])
    axis.set_yticks([0, 0.5, 1])
    axis.set_aspect("equal")
