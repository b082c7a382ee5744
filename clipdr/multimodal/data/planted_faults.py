"""Planted faults of synthetic eye tables: test cases for the leakage checks.

`FAULTS` maps the name of a fault to a function (eye table, random generator) -> eye table with that
fault.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipdr.multimodal.data.eye_table import COLUMNS


def _missingness_leak(eyes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Blank duration and insulin in 9 of 10 rows without retinopathy."""
    blank = (eyes["icdr"] == 0) & (rng.random(len(eyes)) < 0.9)
    return eyes.assign(
        diabetes_years=eyes["diabetes_years"].mask(blank), insulin=eyes["insulin"].mask(blank, "")
    )


def _identifier_in_text(eyes: pd.DataFrame, _rng: np.random.Generator) -> pd.DataFrame:
    """Add the patient's name to the keywords."""
    keywords = (eyes["keywords"] + "|" + eyes["patient"]).str.strip("|")
    return eyes.assign(keywords=keywords)


def _duplicate_captions(eyes: pd.DataFrame, _rng: np.random.Generator) -> pd.DataFrame:
    """Copy the findings of each eye to the eye after it, in pairs."""
    source = np.arange(len(eyes)) // 2 * 2
    findings = [name for name, role in COLUMNS.items() if role == "finding"]
    return eyes.assign(**{name: eyes[name].to_numpy()[source] for name in findings})


FAULTS = {
    "plant_missingness_leak": _missingness_leak,
    "plant_identifier_in_text": _identifier_in_text,
    "duplicate_captions": _duplicate_captions,
}
