"""Published layouts of the real datasets, wherever below raw/DOMAIN the archives were unpacked.

Input: a folder. Output: its images (`images`) and the grades of its own label files (`labels`),
both by (split, stem). The stem is the name of the file in lower case without its extension, because
the files of a dataset differ in both. The split is "" except in IDRID, whose two halves use the
same names. Layouts: Che et al., 2023, and the pages of the datasets. LABELS lists the label files.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from clipdr import GRADES, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
# Folders of the same archives that hold no image to be graded, or a second copy of one.
ASIDE = re.compile(
    r"mask|lesion_|segmentation|localization|ultra-widefield|^samples?$|^__macosx$|^\.",
    re.IGNORECASE,
)
Key = tuple[str, str]


class LabelFile(NamedTuple):
    """A label file as it is published.

    Attributes:
        file: Regular expression of its name, in any case.
        name: Columns of which one names the image; () for a file without a header, whose columns
            are name and grade.
        grade: Columns of which one holds the grade, each with the eye it refers to.
        split: The half that the file describes, "" where names are unique over both.
        none: Cells that mean "cannot be graded".
    """

    file: str
    name: tuple[str, ...] = ()
    grade: Mapping[str, str] = MappingProxyType({"grade": ""})
    split: str = ""
    none: tuple[str, ...] = ("",)


# not patient_DR_Level, the worse of both
DEEPDRID_EYES = {"left_eye_dr_level": "left", "right_eye_dr_level": "right"}
IDRID_COLUMNS = (("image name",), {"retinopathy grade": ""})
LABELS: dict[str, tuple[LabelFile, ...]] = {
    "APTOS": (LabelFile(r"train\.csv", ("id_code",), {"diagnosis": ""}),),
    "DEEPDR": (
        LabelFile(r"regular-fundus-(training|validation)\.csv", ("image_id",), DEEPDRID_EYES),
        LabelFile(
            r"challenge1_labels\.(xlsx|csv)", ("image_id",), {"dr_level": "", "dr_levels": ""}
        ),
    ),
    "FGADR": (LabelFile(r"dr_seg_grading_label\.csv"),),
    "IDRID": (
        LabelFile(r".*training labels\.csv", *IDRID_COLUMNS, "train"),
        LabelFile(r".*testing labels\.csv", *IDRID_COLUMNS, "val"),
        # Kaggle mirror; 27 of its 455 grades differ from the official ones
        LabelFile(r"idrid_labels\.csv", ("id_code",), {"diagnosis": ""}),
    ),
    "MESSIDOR": (
        LabelFile(
            r"messidor_data\.csv",
            ("image_id", "id_code"),
            {"adjudicated_dr_grade": "", "diagnosis": ""},
        ),
    ),
    "RLDR": (),  # published without grades; GDRBench's split files are the only source
    "DDR": (
        LabelFile(r"(train|valid|test)\.txt", none=("", "5")),
        LabelFile(r"dr_grading\.csv", ("id_code",), {"diagnosis": ""}, none=("", "5")),
    ),
    "EYEPACS": (
        LabelFile(r"trainlabels\.csv", ("image",), {"level": ""}),
        LabelFile(r"retinopathy_solution\.csv", ("image",), {"level": ""}),
    ),
}


class Label(NamedTuple):
    """Statement of a label file about one image.

    Attributes:
        grade: Grade 0..4, or None where the image is not graded.
        eye: "left" or "right" where the graded column states it, else "".
        where: File and line number for messages.
    """

    grade: int | None
    eye: str
    where: str


def image_key(domain: str, split: str, name: str) -> Key:
    """Return the key of an image.

    Args:
        domain: Name of the domain.
        split: "train", "val" or "".
        name: Name or path of the image.

    Returns:
        (split, stem). In IDRID, the suffixes `_train` (split files) and `test` (Kaggle mirror) do
        not belong to the stem. In all other domains, the split is "".
    """
    stem = re.split(r"[/\\]", name)[-1].lower()
    stem = stem.removesuffix(next((suffix for suffix in SUFFIXES if stem.endswith(suffix)), ""))
    if domain != "IDRID":
        return "", stem
    half = split or ("val" if stem.endswith("test") else "train")
    return half, re.sub("(_train|test)$", "", stem)


def images(folder: Path, domain: str) -> dict[Key, list[str]]:
    """List the images below a folder, without ASIDE folders.

    Args:
        folder: Folder of the domain.
        domain: Name of the domain.

    Returns:
        Key -> POSIX paths relative to the folder, several where a stem occurs more than once.
    """
    paths: dict[Key, list[str]] = {}
    for path in walk(folder):
        if path.lower().endswith(SUFFIXES):
            split = _half(path) if domain == "IDRID" else ""
            paths.setdefault(image_key(domain, split, path), []).append(path)
    return paths


def labels(folder: Path, domain: str) -> dict[Key, Label]:
    """Read all rows of a domain's label files below a folder.

    Args:
        folder: Folder of the domain.
        domain: Name of the domain.

    Returns:
        Key -> label; {} for a domain without label files (RLDR).

    Raises:
        DataError: If no label file exists, a column is missing, a row is too short, a grade is none
            of 0..4, or one image has two grades. The message names file and line.
    """
    result: dict[Key, Label] = {}
    for path, label_file in label_files(folder, domain):
        _read(path, domain, label_file, result)
    if LABELS[domain] and not result:
        names = (entry.file.replace("\\", "").replace(".*", "*") for entry in LABELS[domain])
        raise DataError(
            f"{folder}: no label file of {domain}. Put one of these files there, as it was "
            f"published: {', '.join(names)}."
        )
    return result


def label_files(folder: Path, domain: str) -> list[tuple[Path, LabelFile]]:
    """List the label files of a domain below a folder.

    Args:
        folder: Folder of the domain.
        domain: Name of the domain.

    Returns:
        Path of every file, and how it is read.
    """
    return [
        (Path(folder) / path, label_file)
        for path in walk(folder)
        for label_file in LABELS[domain]
        if re.fullmatch(label_file.file, path.rpartition("/")[2], re.IGNORECASE)
    ]


def walk(folder: Path) -> Iterator[str]:
    """Iterate over all files below a folder, without ASIDE folders.

    Links are followed, and each folder is entered once.

    Args:
        folder: Folder to search.

    Yields:
        POSIX paths relative to the folder.
    """
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders[:] = []
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not ASIDE.search(name))
        start = Path(parent).relative_to(folder)
        yield from ((start / name).as_posix() for name in sorted(files) if not name.startswith("."))


def disagreements(
    first: Mapping[Key, Label], second: Mapping[Key, Label]
) -> list[tuple[str, Label, Label]]:
    """Compare the grades of two label sources of a domain.

    Args:
        first: Labels of one source.
        second: Labels of the other source.

    Returns:
        (stem, label, label) of every image to which both give a grade, and not the same.
    """
    pairs = [(key[1], first[key], second[key]) for key in first if key in second]
    return [
        pair
        for pair in pairs
        if None not in (pair[1].grade, pair[2].grade) and pair[1].grade != pair[2].grade
    ]


def _half(path: str) -> str:
    """Return the half of IDRID that an image is in, from the names of its folders.

    The folders are "a. Training Set" and "b. Testing Set".
    """
    return "val" if "test" in path.lower().rpartition("/")[0] else "train"


def _read(path: Path, domain: str, label_file: LabelFile, labels: dict[Key, Label]) -> None:
    """Add the rows of one label file to `labels`."""
    rows = _cells(path)
    names, grades = [0], {1: ""}
    if label_file.name:
        names, grades = _columns(path, label_file, rows)
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) <= max(names[0], *grades) or not cells[names[0]]:
            raise DataError(
                f"{where}: {','.join(cells)[:120]!r} lacks a name or a grade. Take the published "
                "file, or correct the line."
            )
        name = cells[names[0]]
        label = _label({eye: cells[column] for column, eye in grades.items()}, label_file, where)
        key = image_key(domain, label_file.split, name)
        if key in labels and labels[key].grade != label.grade:
            raise DataError(
                f"{where}: {name} has grade {label.grade}, but {labels[key].grade} in "
                f"{labels[key].where}. Keep one of them."
            )
        labels[key] = label


def _columns(
    path: Path, label_file: LabelFile, rows: Iterator[tuple[int, list[str]]]
) -> tuple[list[int], dict[int, str]]:
    """Read the header; return the columns of names, and the columns of grades with their eyes."""
    number, header = next(rows, (1, []))
    columns = [cell.lower() for cell in header]
    names = [columns.index(name) for name in label_file.name if name in columns]
    grades = {columns.index(name): eye for name, eye in label_file.grade.items() if name in columns}
    if not names or not grades:
        raise DataError(
            f"{path}, line {number}: the columns are {', '.join(header)[:200]}; expected one of "
            f"{', '.join(label_file.name)} and one of {', '.join(label_file.grade)}. Take the "
            "published file."
        )
    return names, grades


def _label(cells: Mapping[str, str], label_file: LabelFile, where: str) -> Label:
    """Create the label of one row from {eye: cell}, of which at most one cell is a grade."""
    given = [
        (eye, re.sub(r"\.0+$", "", cell))
        for eye, cell in cells.items()
        if cell not in label_file.none
    ]
    if not given:
        return Label(None, "", where)
    eye, grade = given[0]
    if len(given) > 1 or grade not in {str(number) for number in range(len(GRADES))}:
        values = " and ".join(repr(cell) for cell in cells.values())
        raise DataError(
            f"{where}: grade {values} is not one of 0..4. Take the published file, or correct the "
            "line."
        )
    return Label(int(grade), eye, where)


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Iterate over (line number, stripped cells), without empty lines.

    The file is a .csv, a .txt (name, blank, grade) or an .xlsx, whose first sheet is read.
    """
    if path.suffix.lower() == ".xlsx":
        rows = _sheet(path)
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: byte {error.start} is not UTF-8. Take the published file."
            ) from None
        plain = path.suffix.lower() == ".txt"
        rows = [line.rsplit(maxsplit=1) for line in lines] if plain else list(csv.reader(lines))
    for number, row in enumerate(rows, start=1):
        cells = [str(cell if cell is not None else "").strip() for cell in row]
        if any(cells):
            yield number, cells


def _sheet(path: Path) -> list[tuple[Any, ...]]:
    """Read all rows of the first sheet of an .xlsx."""
    import openpyxl

    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).active
        if sheet is None:
            raise ValueError("it has no sheet")
        return list(sheet.iter_rows(values_only=True))
    except Exception as error:  # a broken zip or sheet raises many kinds of error
        raise DataError(
            f"{path}: not a readable xlsx ({error}). Take the published file."
        ) from None
