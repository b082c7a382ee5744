"""Tables beyond the headline: recall per grade, referable DR, calibration before and after the temperature.

Input: averages of `evaluate.average`, methods and held-out domains, as for clipdr.report.tables.benchmark. Output: tables.Table.
"""

from dataclasses import replace
from functools import partial

import pandas as pd

from clipdr import GRADES
from clipdr.evaluation.calibration import BINS, THRESHOLDS
from clipdr.report.labels import PROTOCOLS
from clipdr.report.tables.benchmark import NOTHING, headline

AFTER = " (T)"  # added to a method's name in rows after the temperature
ANCHORS = (
    "Anchors, both prospective and in their own populations: IDx-DR sensitivity 87.2 % (81.8-91.2), specificity 90.7 % (88.3-92.7), set "
    "endpoints 85 % and 82.5 % (Abràmoff et al., 2018); EyeArt 96 % and 88 % (Ipp et al., 2021)."
)


def _of(name, averages, methods, domains, remarks, protocol, metrics, caption, notes):
    """`headline` of some metrics under another name, caption and with further notes."""
    made = headline(averages, methods, domains, remarks, protocol=protocol, metrics=metrics)
    lead = "SYNTHETIC images: " if made.caption.startswith("SYNTHETIC") else ""
    caption = f"{lead}{caption}, unweighted mean over the {len(domains)} {PROTOCOLS[protocol][1]}."
    return replace(
        made,
        name=name,
        caption=caption,
        cells=made.cells.assign(table=name, caption=caption),
        notes=(*made.notes, *notes),
    )


def recall(averages, methods, domains, remarks=NOTHING, *, protocol):
    """Methods x grades: share of the images of each grade that are given it."""
    names = ", ".join(f"{g} {name}" for g, name in enumerate(GRADES))
    metrics = tuple(f"recall_{g}" for g in range(len(GRADES)))
    return _of(
        f"{protocol}_recall",
        averages,
        methods,
        domains,
        remarks,
        protocol,
        metrics,
        "Recall per grade (%)",
        (f"Grades: {names}.",),
    )


def referable(averages, methods, domains, remarks=NOTHING, *, protocol):
    """Methods x AUC, sensitivity and specificity at the frozen threshold, and the oracle's sensitivity, for referable DR."""
    metrics = ("referable_auc", "sensitivity", "specificity", "sensitivity_at_spec90")
    notes = (
        "Threshold: the largest one with a sensitivity of at least 90 % on the source validation set of the same run; the held-out domain "
        "has no part in it.",
        "Oracle: that threshold is chosen on the test images themselves; an upper bound, never a result.",
        ANCHORS,
    )
    return _of(
        f"{protocol}_referable",
        averages,
        methods,
        domains,
        remarks,
        protocol,
        metrics,
        "Referable DR (grade >= 2), in %",
        notes,
    )


def calibration(averages, methods, domains, remarks=NOTHING, *, protocol):
    """Methods, before and after the temperature, x ECE and Brier score of each threshold and RPS."""
    metrics = (*(f"{name}_{k}" for name in ("ece", "brier") for k in THRESHOLDS), "rps")
    after = averages[averages["metric"].str.endswith("_t")]
    after = after.assign(
        metric=after["metric"].str.removesuffix("_t"), method=after["method"] + AFTER
    )
    rows = [name for method in methods for name in (method, method + AFTER)]
    notes = (
        f"≥k: the event grade >= k, predicted with p_k + ... + p_4. ECE: {BINS} bins of equal width; biased upwards where bins hold few "
        "images, prefer Brier and RPS (mean of the four Brier scores) to compare. Lower is better.",
        f"{AFTER.strip()}: after one temperature per run, fitted on its source validation set.",
    )
    caption = "Calibration by threshold of the scale: ECE in %, Brier and RPS x 100"
    return _of(
        f"{protocol}_calibration",
        pd.concat([averages, after]),
        rows,
        domains,
        remarks,
        protocol,
        metrics,
        caption,
        notes,
    )


# name of the file -> f(averages, methods, domains, remarks) -> Table
TABLES = {
    f"dg_{make.__name__}": partial(make, protocol="dg") for make in (recall, referable, calibration)
}
