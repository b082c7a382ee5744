"""Values of run files as MLflow takes them: metrics, parameters, and its limits on both."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipdr import GRADES
from clipdr.evaluation.schema import HEADLINE, POOLED, headline_of

# metrics of scores.csv that MLflow shows; all of them are in the artifact
METRICS = (
    "auc",
    "accuracy",
    "macro_f1",
    "qwk",
    "mae",
    "mae_expected",
    *(f"recall_{grade}" for grade in range(len(GRADES))),
    "referable_auc",
    "sensitivity",
    "specificity",
    "ece_2",
    "rps",
    "ece_2_t",
    "rps_t",
)
NOT_IN_A_NAME = re.compile(r"[^\w\-. /]")  # of a metric or parameter in MLflow
# MLflow's limits: characters of a value and of a name, entries of one log_batch
MAX_VALUE, MAX_NAME, MAX_METRICS, MAX_PARAMS = 6000, 250, 1000, 100
Metrics = list[tuple[str, float, int]]  # name, value, step


def curve(path: Path) -> tuple[str, Metrics]:
    """Read a history.csv.

    Returns:
        The selected step, "" if there is none, and (column, value, step) of every defined value.
    """
    rows = list(csv.DictReader(path.read_text().splitlines()))
    selected = [row["step"] for row in rows if row.get("selected") == "True"]
    columns = [column for column in (rows[0] if rows else ()) if column not in ("step", "selected")]
    points = [(column, number(row[column]), int(row["step"])) for column in columns for row in rows]
    defined = [(column, value, step) for column, value, step in points if value is not None]
    return "".join(selected[-1:]), defined


def scores(path: Path) -> tuple[Metrics, list[str]]:
    """Read the test scores of METRICS from a scores.csv.

    `test/auc` is the value on all test images with the weights selected on source validation (SWAD:
    averaged), `test_last/auc` that of the last weights. `test/auc_low` and `test/auc_high` are the
    interval. Where several domains are tested, `test/auc/DDR` is one of them.

    Returns:
        (name, value, 0) of every defined value, and the names of the undefined ones.
    """
    rows = [
        row
        for row in csv.DictReader(path.read_text().splitlines())
        if row["split"] == "test" and row["stratum"] == "all" and row["metric"] in METRICS
    ]
    several = any(row["domain"] == POOLED for row in rows)
    defined, undefined = [], []
    for row in rows:
        domain = f"/{row['domain']}" if several and row["domain"] != POOLED else ""
        rule = headline_of(row["selection"])
        group = "test" if rule == HEADLINE else f"test_{rule}"
        for suffix, column in {"": "value", "_low": "low", "_high": "high"}.items():
            name, value = f"{group}/{row['metric']}{suffix}{domain}", number(row[column])
            if value is None:
                undefined.append(name)
            else:
                defined.append((name, value, 0))
    return defined, undefined


def number(text: str) -> float | None:
    """Parse a finite number, else None: MLflow has no undefined value, and 0 would be wrong."""
    value = float(text or "nan")
    return value if math.isfinite(value) else None


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to {"training.lr": value}; a list is one value, written as JSON."""
    result = {}
    for key, value in settings.items():
        name = f"{prefix}{NOT_IN_A_NAME.sub('_', str(key))}"
        if isinstance(value, dict):
            result |= flat(value, f"{name}.")
        else:
            result[name] = json.dumps(value) if isinstance(value, list) else value
    return result


def shortened(value: object) -> str:
    """Print a value in at most MAX_VALUE characters."""
    text = str(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
