"""Clinical tables: recall per grade, referable DR, calibration with and without temperature.

Input: averages of `aggregate.average`, methods and held-out domains, as for
clipdr.report.tables.benchmark. Output: a Table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from clipdr import GRADES
from clipdr.evaluation.calibration import BINS, THRESHOLDS
from clipdr.report.labels import PROTOCOLS
from clipdr.report.tables.benchmark import headline, read_averages
from clipdr.report.tables.notes import NOTHING, Remarks
from clipdr.report.tables.table import SYNTHETIC, Entry, Table

AFTER = " (T)"  # added to a method's name in rows after the temperature
ANCHORS = (
    "Anchors, both prospective and in their own populations: IDx-DR sensitivity 87.2 % "
    "(81.8-91.2), specificity 90.7 % (88.3-92.7), set endpoints 85 % and 82.5 % (Abràmoff et al., "
    "2018); EyeArt 96 % and 88 % (Ipp et al., 2021)."
)


def recall(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
) -> Table:
    """Methods x grades: share of the images of a grade that are predicted as it, in %."""
    metrics = tuple(f"recall_{grade}" for grade in range(len(GRADES)))
    table = headline(averages, methods, domains, remarks, protocol=protocol, metrics=metrics)
    names = ", ".join(f"{grade} {name}" for grade, name in enumerate(GRADES))
    caption = f"Recall per grade (%), {_mean(domains, protocol)}"
    return _renamed(table, f"{protocol}_recall", caption, [f"Grades: {names}."])


def referable(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
) -> Table:
    """Methods x measures of referable DR: AUC, sensitivity and specificity at the frozen threshold.

    The last column is the sensitivity at the oracle's threshold, an upper bound.
    """
    metrics = ("referable_auc", "sensitivity", "specificity", "sensitivity_at_spec90")
    table = headline(averages, methods, domains, remarks, protocol=protocol, metrics=metrics)
    notes = (
        "Threshold: the largest one with a sensitivity of at least 90 % on the source validation "
        "set of the same run. The held-out domain has no part in it.",
        "Oracle: the threshold is chosen on the test images. It is an upper bound, never a result.",
        ANCHORS,
    )
    caption = f"Referable DR (grade >= 2), in %, {_mean(domains, protocol)}"
    return _renamed(table, f"{protocol}_referable", caption, notes)


def calibration(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
) -> Table:
    """Methods, before and after the temperature, x ECE and Brier of each threshold, and RPS."""
    metrics = (*(f"{name}_{k}" for name in ("ece", "brier") for k in THRESHOLDS), "rps")
    after = averages[averages["metric"].str.endswith("_t")]
    after = after.assign(
        metric=after["metric"].str.removesuffix("_t"), method=after["method"] + AFTER
    )
    rows = [name for method in methods for name in (method, method + AFTER)]
    both = pd.concat([averages, after])
    table = headline(both, rows, domains, remarks, protocol=protocol, metrics=metrics)
    notes = (
        f"≥k: the event grade >= k, predicted with p_k + ... + p_4. ECE: {BINS} bins of equal "
        "width; it is biased upwards where bins hold few images, so prefer Brier and RPS (mean of "
        "the four Brier scores) to compare. Lower is better.",
        f"{AFTER.strip()}: after one temperature per run, fitted on its source validation set.",
    )
    caption = "Calibration by threshold of the scale: ECE in %, Brier and RPS x 100, "
    caption += _mean(domains, protocol)
    return _renamed(table, f"{protocol}_calibration", caption, notes)


def _mean(domains: Sequence[str], protocol: str) -> str:
    """The end of a caption: what the values are means over."""
    return f"unweighted mean over the {len(domains)} {PROTOCOLS[protocol][1]}."


def _renamed(table: Table, name: str, caption: str, notes: Sequence[str]) -> Table:
    """The table under another name and caption, with further notes; SYNTHETIC stays."""
    lead = SYNTHETIC if table.caption.startswith(SYNTHETIC) else ""
    return table.relabelled(f"{lead}{caption}", name=name, notes=[*table.notes, *notes])


TABLES = {
    f"dg_{make.__name__}": Entry(partial(make, protocol="dg"), "dg", section, read_averages)
    for make, section in (
        (recall, "grades"),
        (referable, "referable"),
        (calibration, "calibration"),
    )
}
