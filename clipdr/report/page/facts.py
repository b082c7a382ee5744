"""Facts of design and performance as sentences with numbers, for checklists and summary.

Input: runs, averages, operating points and leakage reports. Output: {name:
checklist.Fact}. A fact that no artefact holds is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr import GRADES
from clipdr.artifacts.run_folder import Run
from clipdr.evaluation.schema import AVERAGE
from clipdr.report import labels
from clipdr.report.checklist import Fact
from clipdr.report.tables.table import interval_text

BACKBONES = {  # notes on backbones that are not CLIP
    "demo": "not CLIP: an ImageNet network and a small random text encoder",
    "tiny": "random weights, for tests of the wiring",
}
PROTOCOLS = {
    "dg": "train and validate on all domains but one, test on the whole of that one "
    "(GDRBench's DG protocol)"
}


def design(runs: Sequence[Run], reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Fact]:
    """Facts of the protocol, the models and their training.

    Args:
        runs: Runs of one protocol.
        reports: {held-out name: leakage report, {} if there is none}.
    """
    methods = list(dict.fromkeys(run.method for run in runs))
    held = list(dict.fromkeys(run.held_out for run in runs))
    protocol = PROTOCOLS.get(runs[0].protocol, f"protocol {runs[0].protocol}")
    size = runs[0].settings["image"]
    facts = {
        "technology": (
            "summary",
            f"Grading of fundus images by neural networks: {', '.join(methods)}.",
        ),
        "goal": (
            "summary",
            f"Evaluation of {len(methods)} methods on {len(held)} domains that were held out of "
            "training and selection.",
        ),
        "outcome": (
            "data",
            f"Grade of one image on the ICDR scale, 0 to 4 ({', '.join(GRADES)}); "
            "referable DR is grade >= 2.",
        ),
        "output": (
            "summary",
            "Probabilities p0 to p4; the grade is the most probable one, the expected grade their "
            "mean; one network, no averaging.",
        ),
        "partition": (
            "leaks",
            f"{protocol[0].upper()}{protocol[1:]}; splits come from fixed split files.",
        ),
        "external": ("benchmark", f"Every test is on a domain held out whole: {', '.join(held)}."),
        "preprocessing": (
            "data",
            f"Disc detected and cropped, square of {size['size']} pixels, input of "
            f"{size['input']} pixels.",
        ),
    }
    facts |= _models(runs) | _folds(reports, len(held))
    return {name: Fact(text, section) for name, (section, text) in facts.items()}


def _models(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """{fact: (section, sentence)} of models, training, software and code."""
    seeds, first = sorted({run.seed for run in runs}), runs[0].provenance
    backbones = sorted({backbone(run.settings["backbone"]) for run in runs})
    # the name alone, because a file's folder is that of one machine
    weights = sorted({Path(run.settings["backbone"]["weights"]).name for run in runs})
    commits = sorted({run.provenance["commit"] or "unknown" for run in runs})
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return {
        "model": ("training", f"Backbone {'; '.join(backbones)}."),
        "weights": (
            "training",
            f"Initial weights: {', '.join(weights)}; trained weights: model.safetensors of every "
            "run, with sha256.",
        ),
        "training": (
            "training",
            f"{len(runs)} runs, seeds {', '.join(map(str, seeds))}; settings of every method are "
            "listed.",
        ),
        "selection": (
            "selection",
            "Checkpoint with the highest AUC on pooled source validation; the held-out domain is "
            "not used.",
        ),
        "ensemble": ("training", "No ensemble: one network per run."),
        "software": ("environment", f"{versions}; Python {first['python']}."),
        "code": (
            "environment",
            f"Commit {', '.join(commits)}; every number is computed from predictions.parquet by "
            "this package.",
        ),
    }


def _folds(reports: Mapping[str, Mapping[str, Any]], folds: int) -> dict[str, tuple[str, str]]:
    """{fact: (section, sentence)} of the folds; {} unless every fold has its leakage report."""
    checked = {name: report for name, report in reports.items() if report}
    if len(checked) != folds:
        return {}
    sizes = [
        f"{name}: {', '.join(f'{split} {n:,}' for split, n in report['images'].items())}"
        for name, report in checked.items()
    ]
    leaky = [
        f"{name}: {report['verdict']}" for name, report in checked.items() if report["verdict"]
    ]
    verdict = (
        f"leakage was found: {'; '.join(leaky)}"
        if leaky
        else "nothing is shared between training or validation and test"
    )
    text = f"Disjoint by domain; images and patients were compared: {verdict}."
    return {
        "sizes": ("leaks", f"Images per fold: {'; '.join(sizes)}."),
        "disjoint": ("leaks", text),
    }


def backbone(setting: Mapping[str, str]) -> str:
    """A backbone in words. setting: the key `backbone` of settings.json."""
    note = f"; {BACKBONES[setting['name']]}" if setting["name"] in BACKBONES else ""
    weights = Path(setting["weights"]).name
    encoders = f"image encoder {setting['image']}, text encoder {setting['text']}"
    return f"{setting['name']} ({encoders}, weights {weights}{note})"


def performance(
    averages: pd.DataFrame,
    method: str,
    points: Mapping[str, Mapping[str, Any] | None],
    resamples: int,
) -> dict[str, Fact]:
    """Facts of the scores of one method.

    Args:
        averages: Rows of `aggregate.average` of this method, with draws.
        method: The method.
        points: {run: operating point of the selected checkpoint, None or {} where there is none}.
        resamples: Bootstrap resamples behind the intervals.
    """
    held = [name for name in dict.fromkeys(averages["held_out"]) if name != AVERAGE]
    over = labels.PROTOCOLS[averages["protocol"].iloc[0]][1]
    mean = f"{method}, mean of {len(held)} {over} (95 % interval)"
    score = partial(_score, averages.set_index(["held_out", "metric"]))
    by_domain = "; ".join(f"{name} {score('auc', name)}" for name in held)
    facts = {
        "measures": (
            "benchmark",
            "Macro one-versus-one AUC, QWK, macro-F1, accuracy, MAE, recall per grade; for "
            "referable DR AUC, sensitivity and specificity; Brier, ECE and RPS.",
        ),
        "performance": ("benchmark", f"{mean}: AUC {score('auc')} %, QWK {score('qwk')} %."),
        "heterogeneity": ("benchmark", f"{method}, AUC (%) by domain: {by_domain}."),
        "statistics": (
            "comparisons",
            f"95 % intervals from {resamples:,} bootstrap resamples of patients; paired "
            "differences on the same resamples, p corrected by Holm's method.",
        ),
        "referable": (
            "referable",
            f"{mean}, grade >= 2: AUC {score('referable_auc')} %, sensitivity "
            f"{score('sensitivity')} %, specificity {score('specificity')} % at the threshold "
            "frozen on source validation.",
        ),
        "limits": (
            "deviations",
            "No demographic subgroups; one reference standard per source; intervals are about "
            "other patients, not other trainings.",
        ),
    }
    facts |= _calibration(score, method) | _threshold(points)
    return {name: Fact(text, section) for name, (section, text) in facts.items()}


def _score(
    rows: pd.DataFrame,
    metric: str,
    held_out: str = AVERAGE,
    factor: float = 100,
    decimals: int = 1,
) -> str:
    """A mean of averages, indexed by held-out name and metric, with its interval."""
    row = rows.loc[(held_out, metric)] if (held_out, metric) in rows.index else None
    if row is None or np.isnan(row["mean"]):
        return "n/a"
    low, high = factor * row["low"], factor * row["high"]
    interval = "no interval" if np.isnan(low) else interval_text(low, high, decimals)
    return f"{factor * row['mean']:.{decimals}f} ({interval})"


def _calibration(score: Callable[..., str], method: str) -> dict[str, tuple[str, str]]:
    """{fact: (section, sentence)} of the calibration. score: `_score` of the averages."""
    before, after = (score(name, factor=1, decimals=4) for name in ("rps", "rps_t"))
    return {
        "calibration": (
            "calibration",
            f"{method}, ECE of P(grade >= 2), mean of domains: {score('ece_2')} %, after the "
            f"temperature {score('ece_2_t')} %.",
        ),
        "recalibration": (
            "calibration",
            f"One temperature fitted on source validation; RPS {before} before, {after} after.",
        ),
    }


def _threshold(points: Mapping[str, Mapping[str, Any] | None]) -> dict[str, tuple[str, str]]:
    """{fact: (section, sentence)} of the thresholds of referable DR; {} where there is none."""
    values = [point["threshold"] for point in points.values() if point]
    thresholds = [value for value in values if value is not None]
    if not thresholds:
        return {}
    text = "Grade: the most probable. Referable DR: P(grade >= 2) of at least "
    text += f"{min(thresholds):.3f} to {max(thresholds):.3f}, by fold, frozen on source validation."
    return {"threshold": ("referable", text)}
