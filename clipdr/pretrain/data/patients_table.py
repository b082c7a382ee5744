"""The patients table: one row per patient visit with two eyes and a report, from any source.

Input: a table of `clipdr.pretrain.data.patient_sources`. Output: data/patients/{name}.csv (columns
`COLUMNS`, then labels and strata) and {name}.split.json. An image is named by its key in a manifest
of data/manifests/, and its pixels lie in the packed store beside it, as for the grading methods.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import write_text
from clipdr.data.manifest import open_store, read_manifest
from clipdr.pretrain.data import report_text

GIVEN = (
    "dataset",
    "patient_id",
    "visit_id",
    "left_image",
    "right_image",
    "text",
    "language",
    "text_left",
    "text_right",
    "split",
)
COLUMNS = (*GIVEN, "side_known", "text_raw", "text_sha256", "possible_identifier")
NEEDED = ("dataset", "patient_id", "left_image", "right_image", "text", "language")
SIDES = ("left", "right")
SPLITS = ("train", "val", "test")
TENTHS = (  # splits of every ten patients: 70/10/20 %
    "train",
    "test",
    "train",
    "train",
    "val",
    "train",
    "train",
    "test",
    "train",
    "train",
)


def patients(table: pd.DataFrame) -> np.ndarray:
    """Return the group key of every row, "dataset/patient_id", (N,) object."""
    return (table["dataset"] + "/" + table["patient_id"]).to_numpy(object)


def check(table: pd.DataFrame, where: str | Path) -> pd.DataFrame:
    """Check a patients table and add the optional columns, empty.

    Args:
        table: Table with the columns `NEEDED`.
        where: File that messages name; row 2 is the first below the head.

    Returns:
        The table with the columns `GIVEN` first.

    Raises:
        DataError: If a column is missing or a row is wrong; the message names file and row.
    """
    absent = [column for column in NEEDED if column not in table]
    if absent:
        raise DataError(
            f"{where}: no column {', '.join(absent)}. A patients table needs {', '.join(NEEDED)}."
        )
    table = table.reindex(
        columns=[*GIVEN, *(name for name in table if name not in GIVEN)], fill_value=""
    )
    key, split = patients(table), table["split"]
    visit = pd.Series(key) + "/" + table["visit_id"].to_numpy(object)
    several = table.groupby(key)["split"].transform("nunique") > 1
    problems = {
        "no dataset or patient_id": (table["dataset"] == "") | (table["patient_id"] == ""),
        "neither a left nor a right image": (table["left_image"] == "")
        & (table["right_image"] == ""),
        "the same file in both slots": (table["left_image"] != "")
        & (table["left_image"] == table["right_image"]),
        "a (dataset, patient_id, visit_id) that an earlier row has": visit.duplicated().set_axis(
            table.index
        ),
        "a split other than train, val, test": ~split.isin(["", *SPLITS]),
        "a patient in two splits": several,
    }
    for problem, rows in problems.items():
        if rows.any():
            row = int(np.flatnonzero(rows)[0]) + 2
            raise DataError(f"{where}, row {row}: {problem}. Correct the table.")
    return table


def read(path: str | Path) -> pd.DataFrame:
    """Read a patients table that `write` wrote.

    Returns:
        All columns as text, checked; `resolve` gives the row numbers of the images.

    Raises:
        DataError: If the file is missing, or is not a table of `clipdr pretrain pairs`.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Run `clipdr pretrain pairs` first.") from None
    table = check(table, path)
    absent = [column for column in COLUMNS if column not in table]
    if absent or (table["split"] == "").any():
        missing = f"no column {', '.join(absent)}" if absent else "rows without a split"
        raise DataError(
            f"{path}: not a table of `clipdr pretrain pairs` ({missing}). Pass it through `pairs`."
        )
    return table


def resolve(
    table: pd.DataFrame, data: str | Path
) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray]:
    """Find the images of a table in manifests and stores.

    Args:
        table: Patients table, N rows.
        data: Folder with manifests/ and store/.

    Returns:
        Global rows of the left and the right image, (N, 2) int64, -1 where absent; memory-mapped
        stores {first global row: (n, S, S, 3) uint8}; sha256 of the original files, (N, 2) object,
        "" where absent.

    Raises:
        DataError: If an image is in no manifest.
    """
    keys = table[["left_image", "right_image"]].to_numpy(object)
    index: dict[str, tuple[int, str]] = {"": (-1, "")}
    arrays: dict[int, np.ndarray] = {}
    start = 0
    for domain in sorted({key.partition("/")[0] for key in keys.ravel() if key}):
        manifest = read_manifest(Path(data) / "manifests" / f"{domain}.csv")
        arrays[start] = open_store(Path(data) / "store" / f"{domain}.npy", manifest)
        index |= {
            image: (start + row, sha)
            for row, (image, sha) in enumerate(
                zip(manifest["image"], manifest["sha256"], strict=True)
            )
        }
        start += len(manifest)
    for row, pair in enumerate(keys):
        for key in pair:
            if key not in index:
                raise DataError(
                    f"patients table, row {row + 2}: {key} is in no manifest of {data}/manifests. "
                    "Prepare its images."
                )
    images = np.array([[index[key] for key in pair] for pair in keys], object)
    return images[..., 0].astype(np.int64), arrays, images[..., 1]


def divide(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Divide the patients into splits, 70/10/20 %.

    Patients are stratified by (D, N) where the table has these columns. Rows that name a split keep
    it; either all rows name one or none does.

    Args:
        table: Patients table, N rows.
        seed: Of the order of the patients.

    Returns:
        (N,) object, "train", "val" or "test".

    Raises:
        DataError: If some rows name a split and others do not.
    """
    given = (table["split"] != "").to_numpy()
    if given.all():
        return table["split"].to_numpy(object)
    if given.any():
        raise DataError(
            f"patients table, row {int(np.flatnonzero(~given)[0]) + 2}: no split, other rows have "
            "one. Give a split in every row or in none."
        )
    key = pd.Series(patients(table), name="key")
    strata = (
        table[[column for column in "DN" if column in table]]
        .astype(str)
        .agg("".join, axis=1)
        .to_numpy(object)
    )
    people = (
        pd.DataFrame({"key": key, "stratum": strata}).groupby("key", sort=True)["stratum"].max()
    )
    people = people.sample(frac=1, random_state=seed).sort_values(kind="stable")
    return key.map(dict(zip(people.index, np.resize(TENTHS, len(people)), strict=True))).to_numpy(
        object
    )


def finish(
    table: pd.DataFrame,
    seed: int,
    allow_identifiers: bool = False,
    where: str = "patients table",
) -> pd.DataFrame:
    """Check a patients table, clean its texts and split it by patient.

    Args:
        table: Table with the columns `NEEDED`.
        seed: Of the splits.
        allow_identifiers: Keep reports with a possible identifier.
        where: File that messages name.

    Returns:
        The table with the columns `COLUMNS` first.

    Raises:
        DataError: As `check` and `divide`, and on a report with a possible identifier unless these
            are allowed.
    """
    table = check(table, where).reset_index(drop=True)
    table["text_raw"] = table["text"]
    for column in ("text", "text_left", "text_right"):
        table[column] = [
            report_text.clean(text, language)
            for text, language in zip(table[column], table["language"], strict=True)
        ]
    table["text_sha256"] = table["text"].map(report_text.sha256)
    table["possible_identifier"] = [
        " ".join(dict.fromkeys(kind for text in texts for kind in report_text.identifiers(text)))
        for texts in table[["text", "text_left", "text_right"]].to_numpy(object)
    ]
    flagged = np.flatnonzero(table["possible_identifier"] != "")
    if len(flagged) and not allow_identifiers:
        kinds = table["possible_identifier"].iloc[flagged[0]]
        raise DataError(
            f"{where}, row {flagged[0] + 2}: possible identifier in the report ({kinds}). "
            "Remove it, or pass --allow-identifiers."
        )
    if "side_known" not in table:
        table["side_known"] = "1"
    table["split"] = divide(table, seed)
    return table[[*COLUMNS, *(name for name in table if name not in COLUMNS)]]


def split_record(table: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Record the splits: seed, counts, patients {split: [keys]}, and the sha256 of these lists."""
    key = patients(table)
    lists = {split: sorted(set(key[(table["split"] == split).to_numpy()])) for split in SPLITS}
    digest = hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()
    return {
        "seed": seed,
        "counts": {split: len(keys) for split, keys in lists.items()},
        "sha256": digest,
        "patients": lists,
    }


def write(table: pd.DataFrame, path: str | Path, seed: int) -> str:
    """Write {name}.csv and, beside it, {name}.split.json and a receipt.

    Args:
        table: As `finish` returns it.
        path: Of the CSV file.
        seed: Of the splits, for the record.

    Returns:
        One line about the table, for the terminal.
    """
    path, record = Path(path), split_record(table, seed)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    write_text(path.with_suffix(".split.json"), json.dumps(record, indent=1) + "\n")
    receipts.write(
        path.with_suffix(".receipt.json"),
        f"pairs {path.stem}",
        path.parent,
        [path.name, f"{path.stem}.split.json"],
    )
    single = int(((table["left_image"] == "") | (table["right_image"] == "")).sum())
    counts = ", ".join(f"{number} {split}" for split, number in record["counts"].items())
    return (
        f"{path}: {len(table)} visits ({single} with one eye), patients {counts}, "
        f"split sha256 {record['sha256'][:12]}"
    )
