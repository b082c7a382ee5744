"""Structured data of a classifier: allowed columns of the eye table encoded as float32 rows.

`encode` takes no table but a `Demo` or `History`, so that a grade, a finding or a camera cannot
reach a classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.multimodal.data.eye_table import ALLOWED, COLUMNS, COMORBIDITIES

PLACEHOLDER = 1.0  # years; an age up to this is a placeholder (ODIR), tied to one diagnosis


class Demo(NamedTuple):
    """Columns of the input set `demo`.

    Attributes:
        age: (N,) years, NaN where missing.
        sex: (N,) "male", "female" or "".
        eye: (N,) "left", "right" or "".
    """

    age: np.ndarray
    sex: np.ndarray
    eye: np.ndarray


class History(NamedTuple):
    """Columns of the input set `history`.

    Attributes:
        demo: Columns of the input set `demo`.
        diabetes: (N,) "yes", "no" or "".
        diabetes_years: (N,) years, NaN where missing.
        insulin: (N,) "yes", "no" or "".
        comorbidities: (N, 4) "yes", "no" or "", columns in the order of `COMORBIDITIES`.
    """

    demo: Demo
    diabetes: np.ndarray
    diabetes_years: np.ndarray
    insulin: np.ndarray
    comorbidities: np.ndarray


class Constants(NamedTuple):
    """Standardisation constants of the training rows.

    Attributes:
        age: Mean and standard deviation of the known ages, years.
        diabetes_years: Mean and standard deviation of the known durations, years.
    """

    age: tuple[float, float]
    diabetes_years: tuple[float, float]


def fit_constants(train: pd.DataFrame) -> Constants:
    """Compute standardisation constants.

    Args:
        train: Eye table of the training rows.

    Returns:
        Mean and standard deviation per column, (0, 1) where a column is missing in every row.
    """

    def moments(values: pd.Series) -> tuple[float, float]:
        known = values[values > PLACEHOLDER].dropna()
        return (float(known.mean()), float(known.std(ddof=0)) or 1.0) if len(known) else (0.0, 1.0)

    return Constants(
        moments(train["age"]), moments(train.loc[train["diabetes"] != "no", "diabetes_years"])
    )


def replace_placeholders(eyes: pd.DataFrame, constants: Constants) -> pd.DataFrame:
    """Replace placeholder ages by the training mean, without a missing flag.

    A flag would reveal the diagnosis that the placeholders of ODIR coincide with.

    Args:
        eyes: Eye table.
        constants: Constants of the training rows.

    Returns:
        A copy of the table with other ages.
    """
    mean_age = round(constants.age[0]) if constants.age[0] else np.nan
    return eyes.assign(age=eyes["age"].mask(eyes["age"] <= PLACEHOLDER, mean_age))


def select(eyes: pd.DataFrame, inputs: str) -> Demo | History:
    """Select the columns that a classifier may read.

    Args:
        eyes: Eye table of N rows.
        inputs: Input set, "demo" or "history".

    Returns:
        Arrays of N rows.

    Raises:
        DataError: If `inputs` is another name.
    """
    if inputs not in ALLOWED:
        raise DataError(
            f"inputs {inputs!r}: is unknown. Choose demo or history; "
            "duration and insulin belong to history, because they need `diabetes`."
        )
    check_columns(ALLOWED[inputs])
    demo = Demo(*(eyes[name].to_numpy() for name in ALLOWED["demo"]))
    if inputs == "demo":
        return demo
    return History(
        demo,
        diabetes=eyes["diabetes"].to_numpy(),
        diabetes_years=eyes["diabetes_years"].to_numpy(),
        insulin=eyes["insulin"].to_numpy(),
        comorbidities=eyes[list(COMORBIDITIES)].to_numpy(),
    )


def check_columns(names: Sequence[str]) -> None:
    """Check that a classifier may read some columns together.

    BRSET leaves the duration blank in exactly the rows without diabetes. Alone, its missing flag is
    the diagnosis.

    Args:
        names: Input columns.

    Raises:
        DataError: If a column is denied, or duration or insulin comes without `diabetes`.
    """
    for name in names:
        if COLUMNS.get(name) not in ("demo", "history"):
            raise DataError(
                f"inputs: {name!r} is denied to a classifier. "
                f"Choose among {', '.join(ALLOWED['history'])}."
            )
    dependent = [name for name in names if name in ("diabetes_years", "insulin")]
    if dependent and "diabetes" not in names:
        raise DataError(
            f"inputs: {dependent[0]} without diabetes reveals by its blank cells who has no "
            "diabetes. Add diabetes, or leave it out."
        )


def encode(columns: Demo | History, constants: Constants) -> np.ndarray:
    """Encode structured data as float32 rows.

    `demo`: age z-score and missing flag; sex female, male, unknown; eye left, right, unknown.
    `history`: the same, then diabetes 1 yes, -1 no, 0 unknown; duration z-score and flag; insulin
    yes, no, other; four comorbidities coded as diabetes. Where diabetes is "no", duration and
    insulin are zeros whatever the cells hold, so that the missing flag means missing among
    diabetics.

    Args:
        columns: Columns of N eyes.
        constants: Constants of the training rows.

    Returns:
        (N, 8) float32 for a `Demo`, (N, 18) for a `History`.
    """
    demo = columns.demo if isinstance(columns, History) else columns
    blocks = [
        _standardise(demo.age, constants.age),
        _one_hot(demo.sex, ("female", "male")),
        _one_hot(demo.eye, ("left", "right")),
    ]
    if isinstance(columns, History):
        applies = (np.asarray(columns.diabetes) != "no")[:, None]
        duration = _standardise(columns.diabetes_years, constants.diabetes_years)
        insulin = _one_hot(columns.insulin, ("yes", "no"))
        blocks += [
            _sign(columns.diabetes)[:, None],
            np.where(applies, duration, 0),
            np.where(applies, insulin, 0),
            _sign(columns.comorbidities),
        ]
    return np.concatenate(blocks, 1, dtype=np.float32)


def _one_hot(values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """One-hot code, (N,) -> (N, len(names) + 1) float32; the last column is every other value."""
    columns = [np.asarray(values) == name for name in names]
    return np.stack([*columns, ~np.any(columns, axis=0)], 1).astype(np.float32)


def _standardise(values: np.ndarray, moments: tuple[float, float]) -> np.ndarray:
    """Z-score (0 where missing) and missing flag, (N,) years -> (N, 2) float32."""
    missing = np.isnan(values.astype(float))
    z = (values.astype(float) - moments[0]) / moments[1]
    return np.stack([np.where(missing, 0, z), missing], 1).astype(np.float32)


def _sign(answers: np.ndarray) -> np.ndarray:
    """Sign code of answers, float32 of the same shape: "yes" 1, "no" -1, missing 0."""
    answers = np.asarray(answers)
    return (answers == "yes").astype(np.float32) - (answers == "no").astype(np.float32)


def missing_flags(eyes: pd.DataFrame) -> np.ndarray:
    """Flag blank cells: the inputs of the missingness-only baseline, never of the model.

    Args:
        eyes: Eye table of N rows.

    Returns:
        (N, 7) float32, 1 where age, diabetes_years, sex, eye, diabetes, insulin or hypertension is
        blank.
    """
    blank = [eyes[name].isna() for name in ("age", "diabetes_years")]
    blank += [eyes[name] == "" for name in ("sex", "eye", "diabetes", "insulin", "hypertension")]
    return np.stack(blank, 1).astype(np.float32)
