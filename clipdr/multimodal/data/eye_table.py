"""Eye table: one row per imaged eye with its keys, structured data, grades and findings.

Input: rows with some canonical columns, from `clipdr.multimodal.data.label_files` or
`synthetic_eyes`. Output: a checked table with all columns of `COLUMNS`. A column that `COLUMNS`
does not classify is an error.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError

ANATOMY = ("optic_disc", "vessels", "macula")  # 1 abnormal, 0 normal
FLAGS = (
    "diabetic_retinopathy",
    "macular_edema",
    "scar",
    "nevus",
    "amd",
    "vascular_occlusion",
    "hypertensive_retinopathy",
    "drusens",
    "hemorrhage",  # not a diabetic one
    "retinal_detachment",
    "myopic_fundus",
    "increased_cup_disc",
    "other",
)
COMORBIDITIES = ("hypertension", "heart_disease", "dyslipidaemia", "thyroid_disease")
QUALITY = ("focus", "illumination", "image_field", "artifacts")  # 1 bad or present, 0 good
# column -> its role. A classifier may read the roles demo and history; every other role is denied.
COLUMNS = {
    **dict.fromkeys(("dataset", "version", "image", "row", "patient", "split"), "key"),
    **dict.fromkeys(("age", "sex", "eye"), "demo"),
    **dict.fromkeys(("diabetes", "diabetes_years", "insulin", *COMORBIDITIES), "history"),
    **dict.fromkeys(("icdr", "sdrg"), "grade"),
    **dict.fromkeys((*ANATOMY, *FLAGS, "keywords", "description"), "finding"),
    **dict.fromkeys((*QUALITY, "quality", "camera", "age_band"), "stratum"),
}
ALLOWED = {
    "demo": ("age", "sex", "eye"),
    "history": ("age", "sex", "eye", "diabetes", "diabetes_years", "insulin", *COMORBIDITIES),
}
DENIED = tuple(name for name, role in COLUMNS.items() if role not in ("demo", "history"))
CATEGORIES = {  # column -> its values, "" where missing
    "eye": ("left", "right", ""),
    "sex": ("male", "female", ""),
    "quality": ("adequate", "inadequate", ""),
    **dict.fromkeys(("diabetes", "insulin", *COMORBIDITIES), ("yes", "no", "")),
}
RANGES = {  # numeric column -> least and largest value, NaN where missing
    "age": (0, 120),
    "diabetes_years": (0, 90),
    **dict.fromkeys((*ANATOMY, *FLAGS, *QUALITY), (0, 1)),
}
TEXT_COLUMNS = (
    "dataset",
    "version",
    "image",
    "patient",
    "split",
    "keywords",
    "description",
    "camera",
    "age_band",
    *CATEGORIES,
)
AGE_BANDS = (0, 40, 60, 80, 121)


def make_table(rows: pd.DataFrame, dataset: str, version: str, where: str | Path) -> pd.DataFrame:
    """Complete rows to a checked eye table.

    Args:
        rows: (N, some canonical columns) rows. An absent column is missing in every row.
        dataset: Value of the column `dataset`.
        version: Value of the column `version`.
        where: File or source that error messages name.

    Returns:
        (N, all columns of `COLUMNS`) table: grades and `row` int64 with -1 for missing, columns of
        `RANGES` float64 with NaN for missing, all others text with "" for missing.

    Raises:
        DataError: If `COLUMNS` does not classify a column, or a value is out of range. The message
            names `where` and the row (0 = first).
    """
    unknown = [name for name in rows if name not in COLUMNS]
    if unknown:
        raise DataError(
            f"{where}: column {unknown[0]!r} is unknown. "
            "Add it to COLUMNS of clipdr/multimodal/data/eye_table.py, with whether a model may "
            "read it."
        )
    eyes = pd.DataFrame(index=range(len(rows)))
    rows = rows.reset_index(drop=True).assign(dataset=dataset, version=version)
    for name in COLUMNS:
        if name in ("icdr", "sdrg", "row"):
            values = rows[name].fillna(-1) if name in rows else pd.Series(-1, index=rows.index)
            eyes[name] = values.astype("int64")
        elif name in RANGES:
            eyes[name] = rows[name].astype("float64") if name in rows else np.nan
        else:
            eyes[name] = rows[name].fillna("").astype(object) if name in rows else ""
            eyes[name] = eyes[name].astype(object)
    eyes["age_band"] = age_bands(eyes["age"])
    return check_table(eyes, where)


def check_table(eyes: pd.DataFrame, where: str | Path) -> pd.DataFrame:
    """Check columns, values and unique images of an eye table.

    Args:
        eyes: (N, columns) table.
        where: File or source that error messages name.

    Returns:
        The table itself.

    Raises:
        DataError: If the columns differ from `COLUMNS`, a value is not allowed, or two rows name
            one image. The message names the first such row (0 = first).
    """

    def refuse(bad: pd.Series, name: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            value = eyes[name].iloc[row]
            raise DataError(
                f"{where}: row {row}, column {name}: value {value!r} is not allowed. "
                "Correct the table."
            )

    if set(eyes.columns) != set(COLUMNS):
        differing = sorted(set(eyes.columns) ^ set(COLUMNS))
        raise DataError(
            f"{where}: columns {differing} differ from those of the eye table. "
            "Add missing columns and classify them in eye_table.COLUMNS."
        )
    for name, values in CATEGORIES.items():
        refuse(~eyes[name].isin(values), name)
    for name, (low, high) in RANGES.items():
        refuse(~(eyes[name].between(low, high) | eyes[name].isna()), name)
    for name in ("icdr", "sdrg"):
        refuse(~eyes[name].isin(range(-1, len(GRADES))), name)
    refuse(eyes["image"].eq("") | eyes["image"].duplicated(), "image")
    return eyes


def age_bands(age: pd.Series) -> pd.Series:
    """Map ages to age bands.

    Args:
        age: (N,) years, NaN where missing.

    Returns:
        (N,) "0-39", "40-59", "60-79", "80+" or "" where missing.
    """
    names = [f"{low}-{high - 1}" for low, high in itertools.pairwise(AGE_BANDS[:-1])]
    names.append(f"{AGE_BANDS[-2]}+")
    return pd.cut(age, AGE_BANDS, right=False, labels=names).astype(object).fillna("")


def read(path: str | Path) -> pd.DataFrame:
    """Read an eye table that `packing.pack` wrote.

    Args:
        path: CSV file.

    Returns:
        The checked table, types as of `make_table`.

    Raises:
        DataError: If the file is missing or is no eye table.
    """
    try:
        eyes = pd.read_csv(
            path,
            keep_default_na=False,
            na_values={name: [""] for name in RANGES},
            dtype=dict.fromkeys(TEXT_COLUMNS, object),
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: is no eye table ({error}). Run `clipdr multimodal prepare`."
        ) from None
    return check_table(eyes.astype(dict.fromkeys(RANGES, "float64")), path)


def open_pack(data: Path | str, name: str) -> tuple[pd.DataFrame, np.memmap]:
    """Open a packed eye table.

    Args:
        data: Folder of packed eye tables.
        name: Name of the table.

    Returns:
        The eye table, and its images (N, S, S, 3) uint8, memory-mapped.

    Raises:
        DataError: If a file is missing or they do not belong together.
    """
    path = Path(data) / f"{name}.npy"
    eyes = read(path.with_suffix(".csv"))
    try:
        store = np.lib.format.open_memmap(path, mode="c")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: no packed images ({error}). Run `clipdr multimodal prepare`."
        ) from None
    packed = store.dtype == np.uint8 and store.ndim == 4
    if not packed or eyes["row"].min() < 0 or eyes["row"].max() >= len(store):
        raise DataError(
            f"{path}: does not belong to {name}.csv. Run `clipdr multimodal prepare` again."
        )
    return eyes, store
