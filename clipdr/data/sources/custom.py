"""Reader of custom datasets: one CSV file and no code (docs/own_data.md).

Input: a table with the columns image and grade, optionally patient, eye, split and camera; images
lie below the folder of the table. Output: the same rows as the readers of the published datasets.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path, PurePosixPath

import pandas as pd

from clipdr import GRADES, DataError
from clipdr.data.sources.gdrbench import COLUMNS, PROBLEMS, Reading

REQUIRED = ("image", "grade")
KNOWN = ("image", "grade", "patient", "eye", "split", "camera")
CHOICES = {  # column -> allowed values of a cell
    "grade": tuple(str(grade) for grade in range(len(GRADES))),
    "eye": ("left", "right", ""),
    "split": ("train", "val", ""),
}
VALIDATION = 0.2  # share of the patients in validation, for a table without splits

Rows = list[tuple[int, dict[str, str]]]  # (row number from 1, {column: cell})


def read(table: Path, domain: str) -> Reading:
    """Read the images of a table in its order.

    Without splits, whole patients are assigned to validation (see `draw_splits`), and a line is
    printed about it. An image without a patient counts as a patient of its own.

    Args:
        table: CSV in UTF-8, separated by commas, with a header. Paths of images are relative to
            its folder, with forward slashes.
        domain: Name of the dataset in the study.

    Returns:
        Rows with image = DOMAIN/path and file = path below the folder of the table.

    Raises:
        DataError: If a cell is missing, unknown, duplicated or contradictory. The message names
            file, row (1 is the header), column and value of the first fault, and the number of
            further faults.
    """
    table = Path(table)
    rows = _rows(table)
    faults = [fault for row, cells in rows for fault in _cell_faults(table, row, cells)]
    faults = faults or _table_faults(table, rows)
    if faults:
        further = f" ({len(faults) - 1} more cells are wrong)" if len(faults) > 1 else ""
        raise DataError(faults[0] + further)
    frame = pd.DataFrame([cells for _, cells in rows])
    frame = frame.reindex(columns=list(KNOWN), fill_value="")
    frame["file"] = frame["image"]
    frame["image"] = f"{domain}/" + frame["image"]
    frame["domain"] = domain
    frame["grade"] = frame["grade"].astype(int)
    if not frame["split"].any():
        frame["split"] = draw_splits(frame)
        print(f"{domain}: {_split_note(frame, table)}")
    return Reading(frame[COLUMNS], pd.DataFrame(columns=PROBLEMS), 0, [table])


def draw_splits(frame: pd.DataFrame) -> list[str]:
    """Assign whole patients to training and validation, stratified by their worst grade.

    Of the patients with the same worst grade, one in five is in validation, and at least one of two
    or more. The assignment follows from a digest of their names. It does not depend on the order of
    the rows or on a seed, and all eyes of a patient stay together.

    Args:
        frame: Columns image, patient ("" where unknown: a patient of its own) and grade.

    Returns:
        "train" or "val" per row.
    """
    patients = (frame["patient"].where(frame["patient"] != "", "\0" + frame["image"])).tolist()
    worst: dict[str, int] = defaultdict(int)
    for patient, grade in zip(patients, frame["grade"], strict=True):
        worst[patient] = max(worst[patient], grade)
    val: set[str] = set()
    for grade in range(len(GRADES)):
        group = sorted(
            (hashlib.sha256(patient.encode()).digest(), patient)
            for patient in worst
            if worst[patient] == grade
        )
        count = max(round(VALIDATION * len(group)), 1) if len(group) > 1 else 0
        val |= {patient for _, patient in group[:count]}
    return ["val" if patient in val else "train" for patient in patients]


def _rows(table: Path) -> Rows:
    """Read all rows that are not empty, with the spaces around cells removed."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(
            f"{table}: no such file. Name the CSV of the dataset under `own:` in config.yaml, or "
            "with --table."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}: byte {error.start} is not UTF-8. Save the table as CSV UTF-8."
        ) from None
    except csv.Error as error:
        raise DataError(
            f"{table}: not a CSV ({error}). Save the table as CSV, separated by commas."
        ) from None
    if not any(any(line) for line in lines):
        raise DataError(
            f"{table}: the table is empty. Name the columns in its first row: {', '.join(KNOWN)}."
        )
    header = lines[0]
    if fault := _header_fault(header):
        raise DataError(f"{table}, row 1: {fault}")
    for number, line in enumerate(lines[1:], start=2):
        if any(line) and len(line) != len(header):
            raise DataError(
                f"{table}, row {number}: {len(line)} cells under {len(header)} columns "
                f"({','.join(line)[:80]!r}). Put quotes around a cell that holds a comma, and "
                "complete a short row."
            )
    rows = [
        (number, dict(zip(header, line, strict=True)))
        for number, line in enumerate(lines[1:], start=2)
        if any(line)
    ]
    if not rows:
        raise DataError(f"{table}: there is no row below the header. Write one row per image.")
    return rows


def _header_fault(header: list[str]) -> str:
    """Describe what is wrong with the names of the columns, "" if nothing."""
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        return (
            f"the columns are not separated by commas ({header[0][:60]!r}). Save the table as CSV "
            "with commas."
        )
    for name in REQUIRED:
        if name not in header:
            return (
                f"no column `{name}` among {', '.join(header)[:120]}. Write this name in lower "
                "case."
            )
    for number, name in enumerate(header):
        if name not in KNOWN:
            return (
                f"column {name!r} is unknown. The columns are {', '.join(KNOWN)}; rename or remove "
                "it."
            )
        if name in header[:number]:
            return f"column `{name}` is there twice. Remove one."
    return ""


def _cell_faults(table: Path, row: int, cells: dict[str, str]) -> list[str]:
    """Describe what is wrong with the cells of one row, one line each."""
    faults = []
    for column, cell in cells.items():
        fault = ""
        if column == "image":
            fault = _image_fault(table.parent, cell)
        elif column in CHOICES:
            if cell not in CHOICES[column]:
                choices = ", ".join(choice or "an empty cell" for choice in CHOICES[column])
                fault = f"not allowed. Use {choices}."
        elif any(ord(letter) < 32 for letter in cell):
            fault = "it has line breaks or control characters. Remove them."
        if fault:
            faults.append(f"{table}, row {row}, column {column}: {cell!r}: {fault}")
    return faults


def _image_fault(folder: Path, image: str) -> str:
    """Describe what is wrong with the path of an image, "" if nothing."""
    parts = PurePosixPath(image).parts
    if not image:
        return "no image is named. Write its path."
    if "\\" in image or any(ord(letter) < 32 for letter in image):
        return "it has backslashes or control characters. Write forward slashes."
    absolute = image.startswith(("/", "~")) or ":" in parts[0]
    if absolute or ".." in parts or "./" in image or "//" in image:
        return (
            "the path leaves the folder of the table, or is not plain. Write it relative to "
            f"{folder}, and keep the images below it."
        )
    if not (folder / image).is_file():
        return f"no such file below {folder}. Correct the path or put the image there."
    return ""


def _table_faults(table: Path, rows: Rows) -> list[str]:
    """Describe what is wrong between rows: duplicate images, incomplete splits, split patients."""
    faults: list[str] = []
    images: dict[str, int] = {}
    first_rows: dict[str, tuple[int, str]] = {}  # patient -> (row, split) of its first image
    has_splits = any(cells.get("split") for _, cells in rows)
    for row, cells in rows:
        where, image = f"{table}, row {row}, column", cells["image"]
        split, patient = cells.get("split", ""), cells.get("patient", "")
        if image in images:
            faults.append(
                f"{where} image: {image!r}: listed twice, first in row {images[image]}. Keep one "
                "of the rows."
            )
        images.setdefault(image, row)
        if has_splits and not split:
            faults.append(
                f"{where} split: '': other rows have a split. Give every row a split, or none."
            )
        first_row, first_split = first_rows.setdefault(patient, (row, split))
        if patient and first_split != split:
            faults.append(
                f"{where} split: {split!r}: patient {patient} is also in {first_split!r} (row "
                f"{first_row}). Put all images of a patient into one split."
            )
    for split in ("train", "val"):
        if has_splits and not any(cells.get("split") == split for _, cells in rows):
            faults.append(
                f"{table}, column split: no row has {split!r}. Use it for about every fifth "
                "patient, or leave the column out."
            )
    return faults


def _split_note(frame: pd.DataFrame, table: Path) -> str:
    """Describe the assignment of the splits."""
    counts = frame["split"].value_counts()
    note = (
        f"{table} has no splits; {counts.get('val', 0)} of {len(frame)} images were assigned to "
        "validation, whole patients, one in five of every grade"
    )
    unknown = int((frame["patient"] == "").sum())
    if unknown:
        note += (
            f"; {unknown} images name no patient and count as one each, so that two eyes of one "
            "person may be in different splits"
        )
    return note
