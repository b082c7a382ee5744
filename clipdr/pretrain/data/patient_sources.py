"""Sources of patients tables: synthetic patients, ODIR, a custom CSV, and the released format.

Input: files of a source. Output: a patients table before `patients_table.finish`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from clipdr import DataError
from clipdr.data.sources.odir import keywords, stated_grade
from clipdr.pretrain.data import ret_clip_release
from clipdr.pretrain.data.packing import pack
from clipdr.pretrain.data.patients_table import SIDES, check

ODIR_LABELS = tuple("NDGCAHMO")
SOURCES = ("synthetic", "odir", "upstream", "own", "practice")


def make_table(
    source: str,
    raw: Path,
    data: Path,
    *,
    size: int = 256,
    name: str = "",
    language: str = "zh",
    patients: int = 1000,
    people: int = 5000,
    processes: int = 1,
) -> pd.DataFrame:
    """Read the patients of a source and pack their images.

    Args:
        source: One of `SOURCES`.
        raw: Folder of the source; own: the CSV itself; practice: folder that receives the images.
        data: Folder that receives manifests/ and store/.
        size: Side of the packed square in pixels.
        name: upstream: name of the data set; synthetic: suffix of the domains' names.
        language: upstream: language of the reports.
        patients: practice: number of patients.
        people: practice: seed of the patients.
        processes: Worker processes; the result does not depend on it.

    Returns:
        A patients table without splits, unless the source names them.

    Raises:
        DataError: If the source is unknown or its files are missing or damaged.
    """
    if source == "synthetic":
        return synthetic(raw, name)
    if source == "odir":
        return pack(odir(raw), raw, data, size, processes)
    if source == "own":
        return pack(custom(raw), raw.parent, data, size, processes)
    if source == "practice":
        from clipdr.pretrain.data import synthetic_patients

        return synthetic_patients.generate(raw, data, patients, size, people)
    if source == "upstream":
        folder = data / "upstream" / (name or "RET")
        table = ret_clip_release.read_splits(raw, folder, name or "RET", language)
        return pack(table, folder, data, size, processes)
    raise DataError(f"pairs: no source is named {source!r}. Use one of {', '.join(SOURCES)}.")


def synthetic(raw: str | Path, suffix: str = "") -> pd.DataFrame:
    """Read the table of `clipdr synthesize`.

    Args:
        raw: Folder with patients.csv.
        suffix: Added to the name of the data set, because a patient number needs its seed.

    Returns:
        A patients table with the labels D and N and the grade of the worse eye.
    """
    source = pd.read_csv(Path(raw) / "patients.csv", dtype=str, keep_default_na=False)
    names = {
        "patient": "patient_id",
        "report": "text",
        "image_left": "left_image",
        "image_right": "right_image",
    }
    table = source.drop(columns="split").rename(columns=names)
    table.insert(0, "dataset", table.pop("domain") + suffix)
    grades = table[["grade_left", "grade_right"]].apply(pd.to_numeric).max(axis=1)
    return table.assign(
        D=(grades > 0).astype(int).astype(str),
        N=(grades == 0).astype(int).astype(str),
        grade=grades.astype(int).astype(str),
    )


def odir(raw: str | Path) -> pd.DataFrame:
    """Read full_df.csv of ODIR-5K; the diagnostic keywords are the report.

    Args:
        raw: Folder with full_df.csv and images/.

    Returns:
        A patients table with the labels N to O, age, sex, and grade_left and grade_right as the
        keywords state them ("" where they do not).

    Raises:
        DataError: If full_df.csv is missing.
    """
    path = Path(raw) / "full_df.csv"
    if not path.is_file():
        raise DataError(f"{path}: no such file. Give the folder with full_df.csv and images/.")
    source = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = pd.DataFrame({"dataset": "ODIR", "patient_id": source["ID"]})
    for side, title in zip(SIDES, ("Left", "Right"), strict=True):
        words = source[f"{title}-Diagnostic Keywords"].map(keywords)
        table[f"{side}_image"] = "images/" + source[f"{title}-Fundus"]
        table[f"text_{side}"] = words.map(", ".join)
        table[f"grade_{side}"] = words.map(stated_grade).astype(str).replace("-1", "")
    table["text"] = "Left eye: " + table["text_left"] + ". Right eye: " + table["text_right"] + "."
    return table.assign(
        language="en",
        age=source["Patient Age"],
        sex=source["Patient Sex"],
        **{name: source[name] for name in ODIR_LABELS},
    )


def custom(path: str | Path) -> pd.DataFrame:
    """Read the CSV of a custom dataset.

    Args:
        path: CSV with the columns `patients_table.NEEDED` and any of `GIVEN`; images are paths
            relative to its folder.

    Raises:
        DataError: If the file is missing, or as `patients_table.check`.
    """
    try:
        return check(pd.read_csv(path, dtype=str, keep_default_na=False), path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Give the CSV of the patients as --raw.") from None
