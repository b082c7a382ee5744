"""Label files as published -> eye tables: one reader per data set, and one for a custom dataset.

Input: label files of BRSET, mBRSET, DeepEyeNet or ODIR, or a CSV of canonical columns. Output: eye
tables whose `image` is a path below the folder of images. An unknown column or value is an error
that names file, row and column.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from clipdr import DataError
from clipdr.data.sources.odir import keywords, stated_grade
from clipdr.multimodal.data.brset_labels import brset, mbrset
from clipdr.multimodal.data.eye_table import RANGES, make_table
from clipdr.multimodal.data.label_cells import GRADE, decode_cell, read_cells

ODIR_COLUMNS = (
    "ID",
    "Patient Age",
    "Patient Sex",
    "Left-Fundus",
    "Right-Fundus",
    "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords",
)


def deepeyenet(folder: str | Path, version: str = "") -> pd.DataFrame:
    """Read the labels of DeepEyeNet, which names no patients, sides or grades.

    Args:
        folder: Folder of DeepEyeNet_train.json, DeepEyeNet_valid.json and DeepEyeNet_test.json,
            each a list of {path: {"keywords", "clinical-description"}}.
        version: Version of the release.

    Returns:
        Eye table with `split`, `keywords` and `description`.

    Raises:
        DataError: If a file is missing or has another form.
    """
    rows = []
    for published, split in {"train": "train", "valid": "val", "test": "test"}.items():
        path = Path(folder) / f"DeepEyeNet_{published}.json"
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            for index, entry in enumerate(entries):
                ((image, labels),) = entry.items()
                if set(labels) != {"keywords", "clinical-description"}:
                    raise DataError(
                        f"{path}: entry {index} has keys {sorted(labels)}. "
                        "Expected are keywords and clinical-description."
                    )
                rows.append(
                    {
                        "image": image,
                        "split": split,
                        "keywords": "|".join(sorted_keywords(labels["keywords"])),
                        "description": " ".join(labels["clinical-description"].split()),
                    }
                )
        except (OSError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}: is not DeepEyeNet's list of one-key objects ({error}). "
                "Use the published file."
            ) from None
    return make_table(pd.DataFrame(rows), "DEEPEYENET", version, folder)


def sorted_keywords(cell: str) -> list[str]:
    """Split a cell into sorted lower-case keywords, so that their order carries no information.

    Args:
        cell: Keywords as published.

    Returns:
        Keywords. A repeated one stays repeated.
    """
    return sorted(keyword.lower() for keyword in keywords(cell))


def odir(path: str | Path, version: str = "") -> pd.DataFrame:
    """Read the labels of ODIR-5K, one row per patient, as one row per eye.

    The grade is derived from the keywords. The label columns are not read.

    Args:
        path: `full_df.csv`.
        version: Version of the release.

    Returns:
        Eye table.

    Raises:
        DataError: If a column is missing or a value is not allowed.
    """
    cells = read_cells(path)
    if missing := [name for name in ODIR_COLUMNS if name not in cells]:
        raise DataError(f"{path}: has no column {missing[0]!r}. Use full_df.csv of ODIR.")
    rows = []
    for patient in cells.to_dict("records"):
        for side in ("left", "right"):
            names = sorted_keywords(patient[f"{side.capitalize()}-Diagnostic Keywords"])
            rows.append(
                {
                    "image": patient[f"{side.capitalize()}-Fundus"],
                    "patient": patient["ID"],
                    "eye": side,
                    "keywords": "|".join(names),
                    "age": float(patient["Patient Age"]),
                    "sex": patient["Patient Sex"].lower(),
                    "icdr": stated_grade(names),
                }
            )
    return make_table(pd.DataFrame(rows), "ODIR", version, path)


def custom(path: str | Path, version: str = "") -> pd.DataFrame:
    """Read the labels of a custom dataset.

    Args:
        path: CSV of canonical columns (`eye_table.COLUMNS`), at least `image`.
        version: Version of the data set.

    Returns:
        Eye table. An absent column is missing in every row. The column `dataset` is "OWN" where the
        file has none.

    Raises:
        DataError: If `image` is missing, a column is not canonical, or a value is not allowed.
    """
    cells = read_cells(path)
    if "image" not in cells:
        raise DataError(
            f"{path}: has no column 'image'. "
            "Name the columns of a custom dataset as in eye_table.COLUMNS, at least image."
        )
    name = cells["dataset"].iloc[0] if "dataset" in cells and len(cells) else "OWN"
    for column in cells:
        if column in RANGES:
            coding = float
        elif column in ("icdr", "sdrg", "row"):
            coding = GRADE | {"": -1, "-1": -1}
        else:
            continue
        cells[column] = [
            decode_cell(cell, coding, path, row, column) for row, cell in enumerate(cells[column])
        ]
    return make_table(cells, name, version, path)


# name of a source -> reader of its label file or folder; "own" is the earlier name of "custom"
SOURCES: dict[str, Callable[[str | Path], pd.DataFrame]] = {
    "brset": brset,
    "mbrset": mbrset,
    "deepeyenet": deepeyenet,
    "odir": odir,
    "custom": custom,
    "own": custom,
}
