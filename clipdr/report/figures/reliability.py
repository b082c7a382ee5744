"""Reliability curves: how often grade >= k came true where its predicted probability was q, before and after the temperature.

Input: predictions and operating.json of the runs (lowest seed), and the averages of all. Output: a row of panels per method, one per
threshold of the scale.
"""

import json

import numpy as np
import pandas as pd

from clipdr.artifacts.run_folder import first_seed
from clipdr.evaluation import aggregate, schema
from clipdr.evaluation import predictions as prediction_files
from clipdr.evaluation.calibration import BINS, THRESHOLDS, reliability, temper
from clipdr.evaluation.predictions import tested
from clipdr.evaluation.schema import AVERAGE, PROBABILITIES
from clipdr.report.figures.style import COLOURS, WIDE, domain_kind, style, suptitle

TITLE = "Reliability curves"
CAPTION = (
    "Share of images with grade >= k (%) against the predicted probability (%), before "
    "and after temperature scaling."
)
SECTION = "calibration"
PER_IMAGE = False
COUNTED = True
USES_METHODS = True

STAGES = {
    "before": ("", COLOURS[1], "o"),
    "after": ("_t", COLOURS[0], "s"),
}  # name -> suffix of the measure, colour, mark
TEMPERED = [f"t{column}" for column in PROBABILITIES]


def read(inputs):
    """Test rows with p0..p4 before (p) and after (tp) the temperature of their own run; the averages of all seeds."""
    rows = []
    for run in first_seed(inputs.runs):
        part = tested(
            prediction_files.read(
                run / "predictions.parquet",
                ["method", "selection", "split", "grade", *PROBABILITIES],
            )
        )
        warmth = schema.of_headline(json.loads((run / "operating.json").read_text()))["temperature"]
        before = part[PROBABILITIES].to_numpy(np.float64)
        after = np.full_like(before, np.nan) if warmth is None else temper(before, warmth)
        rows.append(part.assign(**dict(zip(TEMPERED, after.T, strict=True))))
    return pd.concat(rows), aggregate.average(aggregate.collect(inputs.runs))


def plot(content, methods, domains):
    """Panels: x = mean q of each bin, y = share of images with grade >= k; the area of a mark grows with its images."""
    from matplotlib.figure import Figure

    rows, averages = content
    known = (
        averages[averages["held_out"] == AVERAGE].set_index(["method", "metric"])["mean"].to_dict()
    )
    with style():
        figure = Figure(figsize=(WIDE, 1.75 * len(methods) + 0.75), layout="constrained")
        axes = figure.subplots(
            len(methods), len(THRESHOLDS), sharex=True, sharey=True, squeeze=False
        )
        for line, method in zip(axes, methods, strict=True):
            part = rows[rows["method"] == method]
            for axis, k in zip(line, THRESHOLDS, strict=True):
                _panel(axis, part, k)
                before, after = (
                    _percent(known.get((method, f"ece_{k}{suffix}"), np.nan))
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
        suptitle(
            figure,
            domains,
            f"reliability, {n} images of {len(domains)} {domain_kind(domains)}s; ECE in %, {BINS} bins, mean over domains",
        )
    return figure


def _percent(value):
    return "n/a" if np.isnan(value) else f"{100 * value:.1f}"


def _panel(axis, rows, k):
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=1)
    for (name, (_, colour, mark)), columns in zip(
        STAGES.items(), (PROBABILITIES, TEMPERED), strict=True
    ):
        part = rows.dropna(subset=columns)
        points = (
            reliability(part["grade"].to_numpy(), part[columns].to_numpy(np.float64), k)
            if len(part)
            else np.empty((0, 3))
        )
        area = 3 + 60 * points[:, 2] / max(len(part), 1)
        axis.plot(points[:, 0], points[:, 1], color=colour, linewidth=0.8, zorder=2)
        label = f"{name} the temperature fitted on source validation"
        axis.scatter(
            points[:, 0],
            points[:, 1],
            s=area,
            color=colour,
            marker=mark,
            linewidths=0,
            alpha=0.85,
            zorder=3,
            label=label,
        )
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(-0.03, 1.18)
    axis.set_xticks([0, 0.5, 1])
    axis.set_yticks([0, 0.5, 1])
    axis.set_aspect("equal")
