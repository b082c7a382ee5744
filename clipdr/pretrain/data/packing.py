"""Packing of the images of a patients table into the stores that training reads."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.pretrain.data.patients_table import SIDES


def pack(
    table: pd.DataFrame, folder: str | Path, data: str | Path, size: int, processes: int
) -> pd.DataFrame:
    """Prepare the images of a table: a store and a manifest per data set.

    Args:
        table: Patients table whose images are paths below `folder`.
        folder: Folder of the image files.
        data: Folder that receives manifests/, store/, rejected/ and receipts/.
        size: Side of the packed square in pixels.
        processes: Worker processes; the result does not depend on it.

    Returns:
        The table with keys of the manifests for paths. An image that cannot be used leaves its slot
        empty (listed in data/rejected/{dataset}.csv), and a row without any image is dropped.

    Raises:
        DataError: If the name of a data set cannot name a file.
    """
    table = table.copy()
    for dataset, part in table.groupby("dataset", sort=True):
        if not re.fullmatch(r"\w+", dataset):
            raise DataError(
                f"patients table: dataset {dataset!r} cannot be used in a file name. "
                "Use letters, digits and _ only."
            )
        files = [
            (row.Index, side, getattr(row, f"{side}_image"))
            for row in part.itertuples()
            for side in SIDES
        ]
        files = [entry for entry in files if entry[2]]
        usable = _pack_dataset(dataset, part, files, Path(folder), Path(data), size, processes)
        for row, side, file in files:
            key = f"{dataset}/{file}"
            table.loc[row, f"{side}_image"] = key if key in usable else ""
    return table[(table["left_image"] != "") | (table["right_image"] != "")].reset_index(drop=True)


def _pack_dataset(
    dataset: str,
    part: pd.DataFrame,
    files: list[tuple[int, str, str]],
    folder: Path,
    data: Path,
    size: int,
    processes: int,
) -> set[str]:
    """Pack the files (row, side, path) of one data set; returns the keys of the usable images."""
    from clipdr.data.preprocessing import prepare

    patient = part["patient_id"]
    grade = {side: part.get(f"grade_{side}", pd.Series("", part.index)) for side in SIDES}
    records = pd.DataFrame(
        {
            "image": [f"{dataset}/{file}" for _, _, file in files],
            "file": [file for _, _, file in files],
            "grade": [int(grade[side][row] or -1) for row, side, _ in files],
            "split": "",
            "patient": [patient[row] for row, _, _ in files],
            "eye": [side for _, side, _ in files],
            "camera": "",
        }
    )
    manifest, store = f"manifests/{dataset}.csv", f"store/{dataset}.npy"
    rejected = f"rejected/{dataset}.csv"
    rows, refused = prepare.pack(
        records.drop_duplicates("image"),
        dataset,
        folder,
        data / manifest,
        data / store,
        data / rejected,
        size,
        processes,
    )
    receipts.write(
        data / "receipts" / f"{dataset}.json",
        f"pairs {dataset}",
        data,
        [manifest, store, rejected],
        size=size,
    )
    print(f"{dataset}: {len(rows)} images prepared, {len(refused)} rejected")
    return set(rows["image"])
