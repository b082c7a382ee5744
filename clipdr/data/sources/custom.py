"""A data set of one's own: one CSV, no code (docs/own_data.md).

Input: a table with the columns image and grade, and as far as they are known patient, eye, split, camera; photographs below the table's
folder. Output: the same rows that the readers of the published data sets give.
"""

import csv
import hashlib
from collections import defaultdict
from pathlib import Path, PurePosixPath

import pandas as pd

from clipdr import GRADES, DataError
from clipdr.data.sources.gdrbench import COLUMNS, PROBLEMS, Reading

NEEDED, KNOWN = ("image", "grade"), ("image", "grade", "patient", "eye", "split", "camera")
CHOICES = {  # column -> what a cell may say
    "grade": tuple(str(number) for number in range(len(GRADES))),
    "eye": ("left", "right", ""),
    "split": ("train", "val", ""),
}
VALIDATION = 0.2  # share of the patients that a table without splits gives to validation


def read(table: Path, domain: str) -> Reading:
    """Photographs of a table, in its order. Without splits, whole patients are drawn into validation (`draw_splits`), and a line says so.

    table  : CSV, UTF-8, separated by commas, with a header; paths of photographs are relative to its folder, with forward slashes
    domain : its name in the study
    returns  image: DOMAIN/path, file: path below the table's folder; a photograph without a patient counts as a patient of its own

    Raises DataError, naming file, row (1 is the header), column and value: whatever is missing, unknown, doubled or contradictory. Of many
    faults the first is told, and their number.
    """
    table = Path(table)
    cells = _cells(table)
    faults = [fault for row, values in cells for fault in _faults(table, row, values)]
    faults = faults or _across(table, cells)
    if faults:
        raise DataError(
            faults[0] + (f" ({len(faults) - 1} more cells are wrong)" if len(faults) > 1 else "")
        )
    frame = pd.DataFrame([values for _, values in cells])
    frame = frame.reindex(columns=list(KNOWN), fill_value="")
    frame["file"] = frame["image"]
    frame["image"] = f"{domain}/" + frame["image"]
    frame["domain"] = domain
    frame["grade"] = frame["grade"].astype(int)
    if not frame["split"].any():
        frame["split"] = draw_splits(frame)
        print(f"{domain}: {_drawn(frame, table)}")
    return Reading(frame[COLUMNS], pd.DataFrame(columns=PROBLEMS), 0, [table])


def draw_splits(frame: pd.DataFrame) -> list[str]:
    """ "train" or "val" per row: of the patients with the same worst grade, one in five is in validation, and one at least of two or more.

    Which ones follows from a digest of their names: neither the order of the rows nor a seed changes it, and all eyes of a patient stay
    together. frame: columns image, patient ("" unknown: a patient of its own), grade.
    """
    people = (frame["patient"].where(frame["patient"] != "", "\0" + frame["image"])).tolist()
    worst = defaultdict(int)
    for person, grade in zip(people, frame["grade"], strict=True):
        worst[person] = max(worst[person], grade)
    val = set()
    for grade in range(len(GRADES)):
        group = sorted(
            (hashlib.sha256(person.encode()).digest(), person)
            for person in worst
            if worst[person] == grade
        )
        count = max(round(VALIDATION * len(group)), 1) if len(group) > 1 else 0
        val |= {person for _, person in group[:count]}
    return ["val" if person in val else "train" for person in people]


def _cells(table: Path) -> list[tuple[int, dict[str, str]]]:
    """(row number, {column: cell}) of all rows that are not empty, spaces around cells removed."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(
            f"{table}: no such file; name the CSV of the data set under `own:` in config.yaml, or by --table"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{table}: byte {error.start} is not UTF-8; save the table as CSV UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(
            f"{table}: not a CSV ({error}); save the table as CSV, separated by commas"
        ) from None
    if not any(any(row) for row in rows):
        raise DataError(
            f"{table}: the table is empty; its first row names the columns: {', '.join(KNOWN)}"
        )
    header = rows[0]
    what = _header_fault(header)
    if what:
        raise DataError(f"{table}, row 1: {what}")
    for number, row in enumerate(rows[1:], start=2):
        if any(row) and len(row) != len(header):
            raise DataError(
                f"{table}, row {number}: {len(row)} cells under {len(header)} columns ({','.join(row)[:80]!r}); "
                f"put quotes around a cell that holds a comma, and fill up a short row"
            )
    cells = [
        (number, dict(zip(header, row, strict=True)))
        for number, row in enumerate(rows[1:], start=2)
        if any(row)
    ]
    if not cells:
        raise DataError(f"{table}: there is no row below the header; write one per photograph")
    return cells


def _header_fault(header: list[str]) -> str:
    """What is wrong with the names of the columns, "" if nothing."""
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        return f"the columns are not separated by commas ({header[0][:60]!r}); save the table as CSV with commas"
    for name in NEEDED:
        if name not in header:
            return f"no column `{name}` among {', '.join(header)[:120]}; name it so, in lower case"
    for number, name in enumerate(header):
        if name not in KNOWN:
            return f"column {name!r} is unknown; the columns are {', '.join(KNOWN)}: rename it or take it out"
        if name in header[:number]:
            return f"column `{name}` is there twice; take one out"
    return ""


def _faults(table: Path, row: int, cells: dict[str, str]) -> list[str]:
    """What is wrong with the cells of one row, one line each."""
    found = []
    for column, cell in cells.items():
        if column == "image":
            what = _image_fault(table.parent, cell)
        elif column in CHOICES and cell not in CHOICES[column]:
            what = f"use {', '.join(choice or 'an empty cell' for choice in CHOICES[column])}"
        elif any(ord(letter) < 32 for letter in cell):
            what = "take out line breaks and control characters"
        else:
            continue
        if what:
            found.append(f"{table}, row {row}, column {column}: {cell!r}: {what}")
    return found


def _image_fault(folder: Path, image: str) -> str:
    parts = PurePosixPath(image).parts
    if not image:
        return "no photograph is named; write its path"
    if "\\" in image or any(ord(letter) < 32 for letter in image):
        return "write forward slashes, and no control characters"
    if (
        image.startswith(("/", "~"))
        or ".." in parts
        or "./" in image
        or "//" in image
        or ":" in parts[0]
    ):
        return f"the path leaves the table's folder, or is not plain; write it relative to {folder}, and keep the photographs below it"
    if not (folder / image).is_file():
        return f"there is no such file below {folder}; correct the path or put the photograph there"
    return ""


def _across(table: Path, cells: list[tuple[int, dict[str, str]]]) -> list[str]:
    """What is wrong between the rows: a photograph twice, splits for some rows only, an empty split, a patient on both sides."""
    found, images, side = [], {}, {}
    given = any(values.get("split") for _, values in cells)
    for row, values in cells:
        where, image = f"{table}, row {row}, column", values["image"]
        split, patient = values.get("split", ""), values.get("patient", "")
        if image in images:
            found.append(
                f"{where} image: {image!r}: listed twice, first in row {images[image]}; keep one of the rows"
            )
        images.setdefault(image, row)
        if given and not split:
            found.append(f"{where} split: '': other rows have a split; give every row one, or none")
        first, before = side.setdefault(patient, (row, split))
        if patient and before != split:
            found.append(
                f"{where} split: {split!r}: patient {patient} is in {before!r} too (row {first}); all photographs of a patient go into one"
            )
    for split in ("train", "val"):
        if given and not any(values.get("split") == split for _, values in cells):
            found.append(
                f"{table}, column split: no row says {split!r}; give it about every fifth patient, or leave the column out"
            )
    return found


def _drawn(frame, table):
    counts = frame["split"].value_counts()
    line = f"{table} has no splits: drew {counts.get('val', 0)} of {len(frame)} photographs for validation, "
    line += "whole patients, one in five of every grade"
    unknown = int((frame["patient"] == "").sum())
    if unknown:
        line += f"; {unknown} photographs name no patient and count as one each: two eyes of one person may be on both sides"
    return line
