"""The original layouts of the real data sets, as their publishers hand them out, wherever below raw/DOMAIN the archives were unpacked.

Input: a folder. Output: its photographs (`photographs`) and what its own label files say of them (`labels`), both by (split, stem). The
stem is the file's name in lower case without its extension, because a set's own files differ in both. The split is "" except in IDRID,
whose two halves use the same names. Layouts: Che et al., 2023, and the data sets' pages; LABELS is the list of the label files.
"""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clipdr import GRADES, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
# folders of the same archives that hold no photograph to be graded, or a second copy of one
ASIDE = re.compile(
    r"mask|lesion_|segmentation|localization|ultra-widefield|^samples?$|^__macosx$|^\.",
    re.IGNORECASE,
)
Key = tuple[str, str]


class LabelFile(NamedTuple):
    """A label file as it is published.

    file   : regular expression of its name, in any case
    name   : columns of which one names the photograph; () for a file without a header: name, grade
    grade  : columns of which one holds the grade, each with the eye that it speaks of
    split  : the half that the file speaks of, "" where names are unique over both
    none   : grades that mean "cannot be graded", beside the empty cell
    """

    file: str
    name: tuple[str, ...] = ()
    grade: dict[str, str] = {"grade": ""}  # noqa: RUF012 (never changed)
    split: str = ""
    none: tuple[str, ...] = ("",)


DEEPDRID_EYES = {
    "left_eye_dr_level": "left",
    "right_eye_dr_level": "right",
}  # not patient_DR_Level, the worse of both
IDRID_COLUMNS = (("image name",), {"retinopathy grade": ""})
LABELS = {
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
        LabelFile(
            r"idrid_labels\.csv", ("id_code",), {"diagnosis": ""}
        ),  # Kaggle mirror: 27 of its 455 grades differ
    ),
    "MESSIDOR": (
        LabelFile(
            r"messidor_data\.csv",
            ("image_id", "id_code"),
            {"adjudicated_dr_grade": "", "diagnosis": ""},
        ),
    ),
    "RLDR": (),  # published without grades: GDRBench's split files are the only source
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
    """What a label file says of one photograph: grade 0..4 or None (not graded), eye of the graded column or "", file and line."""

    grade: int | None
    eye: str
    where: str


def key(domain: str, split: str, name: str) -> Key:
    """(split, stem) of a name or path. In IDRID, `_train` (split files) and `test` (Kaggle mirror) behind a stem are no part of it."""
    stem = re.split(r"[/\\]", name)[-1].lower()
    stem = stem.removesuffix(next((suffix for suffix in SUFFIXES if stem.endswith(suffix)), ""))
    if domain != "IDRID":
        return "", stem
    return split or ("val" if stem.endswith("test") else "train"), re.sub(
        "(_train|test)$", "", stem
    )


def photographs(folder: Path, domain: str) -> dict[Key, list[str]]:
    """Photographs below a folder by key: POSIX paths relative to it, more than one where a stem occurs twice; no ASIDE folders."""
    found = {}
    for path in walk(folder):
        if path.lower().endswith(SUFFIXES):
            split = _half(path) if domain == "IDRID" else ""
            found.setdefault(key(domain, split, path), []).append(path)
    return found


def labels(folder: Path, domain: str) -> dict[Key, Label]:
    """All rows of a domain's label files below a folder; {} for a domain that has none (RLDR).

    Raises DataError, naming file and line: none of the files is there, a column is missing, a row is too short, a grade is none of 0..4,
    one photograph has two grades.
    """
    found = {}
    for path, kind in label_files(folder, domain):
        _read(path, domain, kind, found)
    if LABELS[domain] and not found:
        files = ", ".join(kind.file.replace("\\", "").replace(".*", "*") for kind in LABELS[domain])
        raise DataError(
            f"{folder}: no label file of {domain}; put one of these names there, as it was published: {files}"
        )
    return found


def label_files(folder: Path, domain: str) -> list[tuple[Path, LabelFile]]:
    """The label files of a domain below a folder, and how each is read."""
    return [
        (Path(folder) / path, kind)
        for path in walk(folder)
        for kind in LABELS[domain]
        if re.fullmatch(kind.file, path.rpartition("/")[2], re.IGNORECASE)
    ]


def walk(folder: Path) -> Iterator[str]:
    """POSIX paths of all files below a folder, relative to it, links followed, each folder entered once; without folders like ASIDE."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = (
            sorted(name for name in folders if not ASIDE.search(name)) if real not in seen else []
        )
        if real not in seen:
            start = Path(parent).relative_to(folder)
            yield from (
                (start / name).as_posix() for name in sorted(files) if not name.startswith(".")
            )
        seen.add(real)


def disagreements(one: dict[Key, Label], other: dict[Key, Label]) -> list[tuple[str, Label, Label]]:
    """Photographs (stem) to which two label sources of a domain give different grades; those graded by one alone are left out."""
    both = [(key[1], one[key], other[key]) for key in one if key in other]
    return [
        pair
        for pair in both
        if None not in (pair[1].grade, pair[2].grade) and pair[1].grade != pair[2].grade
    ]


def _half(path: str) -> str:
    """IDRID's half that a photograph lies in, from the names of its folders: "a. Training Set", "b. Testing Set"."""
    words = path.lower().rpartition("/")[0]
    return "val" if "test" in words else "train"


def _read(path: Path, domain: str, kind: LabelFile, found: dict[Key, Label]) -> None:
    """Add the rows of one label file to `found`."""
    rows = _cells(path)
    names, grades = [0], {1: ""}
    if kind.name:
        number, header = next(rows, (1, []))
        columns = [cell.lower() for cell in header]
        names = [columns.index(name) for name in kind.name if name in columns]
        grades = {columns.index(name): eye for name, eye in kind.grade.items() if name in columns}
        if not names or not grades:
            wanted = f"one of {', '.join(kind.name)} and one of {', '.join(kind.grade)}"
            raise DataError(
                f"{path}, line {number}: the columns are {', '.join(header)[:200]}; expected {wanted}: take the published file"
            )
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) <= max(names[0], *grades) or not cells[names[0]]:
            raise DataError(
                f"{where}: {','.join(cells)[:120]!r} lacks a name or a grade; take the published file, or mend the line"
            )
        name, label = (
            cells[names[0]],
            _label({eye: cells[column] for column, eye in grades.items()}, kind, where),
        )
        place = key(domain, kind.split, name)
        if place in found and found[place].grade != label.grade:
            raise DataError(
                f"{where}: {name} has grade {label.grade}, but {found[place].grade} in {found[place].where}; keep one of them"
            )
        found[place] = label


def _label(cells: dict[str, str], kind: LabelFile, where: str) -> Label:
    """{eye: cell} of one row -> its label: at most one of the cells is a grade."""
    given = [
        (eye, re.sub(r"\.0+$", "", cell)) for eye, cell in cells.items() if cell not in kind.none
    ]
    if not given:
        return Label(None, "", where)
    eye, grade = given[0]
    if len(given) > 1 or grade not in {str(number) for number in range(len(GRADES))}:
        shown = " and ".join(repr(cell) for cell in cells.values())
        raise DataError(
            f"{where}: grade {shown} is not one of 0..4; take the published file, or mend the line"
        )
    return Label(int(grade), eye, where)


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped cells) of a .csv, a .txt (name, blank, grade) or the first sheet of an .xlsx; empty lines are skipped."""
    if path.suffix.lower() == ".xlsx":
        rows = _sheet(path)
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: byte {error.start} is not UTF-8; take the published file"
            ) from None
        rows = (
            [line.rsplit(maxsplit=1) for line in lines]
            if path.suffix.lower() == ".txt"
            else list(csv.reader(lines))
        )
    for number, cells in enumerate(rows, start=1):
        cells = [str(cell if cell is not None else "").strip() for cell in cells]
        if any(cells):
            yield number, cells


def _sheet(path: Path) -> list[tuple]:
    import openpyxl

    try:
        return list(
            openpyxl.load_workbook(path, read_only=True, data_only=True).active.iter_rows(
                values_only=True
            )
        )
    except Exception as error:  # a broken zip or sheet raises many kinds of error
        raise DataError(f"{path}: not a readable xlsx ({error}); take the published file") from None
