"""Reader of GDRBench: split files, and images in GDRBench's own or in their published layout.

Input: raw/splits/{D}_train.txt and {D}_crossval.txt (`path grade` per line), and the images in
either raw/images/{D}/FOLDER/FILE (GDRBench's layout) or raw/{D}/... (as published, see
clipdr.data.sources.published_layouts). Output: one row per image, the same for both layouts.
Layout: Che et al., 2023.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from clipdr import GRADES, DataError
from clipdr.data.domains import DOMAINS, FOLDERS
from clipdr.data.sources import published_layouts

SPLITS = {"train": "train", "val": "crossval"}  # split -> its name in the name of the file
FLAT = {"EYEPACS": "Images"}  # the one domain whose official lists have no folder per grade
EYES = {"l": "left", "r": "right"}
COLUMNS = ["image", "file", "grade", "domain", "split", "patient", "eye", "camera"]
PROBLEMS = ["image", "problem", "split_grade", "original_grade", "where"]
PROBLEM_TEXT = {  # problem of an image that the split files name -> its description
    "missing": "no such image in the folder",
    "grade": "another grade in the dataset's own labels",
    "ungraded": "no grade in the dataset's own labels",
}


class Reading(NamedTuple):
    """Result of a reader.

    Attributes:
        records: COLUMNS, one row per image that exists. The grade of the split file takes
            precedence over any other.
        problems: PROBLEMS, one row per image that is missing, or for which the dataset's own
            labels state something else.
        extra: Number of images in the folder that no split file names; they are not used.
        lists: Files that describe the images: split files and label files.
    """

    records: pd.DataFrame
    problems: pd.DataFrame
    extra: int
    lists: list[Path]


class Listed(NamedTuple):
    """One line of a split file.

    Attributes:
        image: Path DOMAIN/FOLDER/FILE.
        grade: Grade 0..4.
        split: "train" or "val".
        where: File and line number for messages.
    """

    image: str
    grade: int
    split: str
    where: str


def records(raw: Path, domain: str, tolerance: int = 0) -> pd.DataFrame:
    """Read the images of one domain, train before val, in the order of the split files.

    Args:
        raw: Folder with splits/, and images/{D}/ or {D}/.
        domain: A key of DOMAINS.
        tolerance: Number of images that may be missing, or graded differently by the dataset's own
            labels.

    Returns:
        One row per image. Columns: image (str, path in the split file, the key), file (str, POSIX
        path below raw), grade (int, 0..4), domain (str), split ("train" | "val"). Also patient
        (str, "" unknown; unique within the domain only), eye ("left" | "right" | "") and camera
        (str, "" unknown).

    Raises:
        DataError: As `read` does, and if there are more problems than tolerated.
    """
    reading = read(raw, domain)
    refuse(reading, domain, tolerance)
    return reading.records


def read(raw: Path, domain: str) -> Reading:
    """Read images and problems of one domain in the layout that exists.

    Args:
        raw: Folder with splits/, and images/{D}/ or {D}/.
        domain: A key of DOMAINS.

    Returns:
        Images, problems, and the files that describe them.

    Raises:
        DataError: If a split file is missing or a label file is malformed. If a line is not `path
            grade`, or its grade is outside 0..4. If its path is absolute, contains `..`, belongs to
            another domain, or is listed twice. If its folder contradicts its grade. If the images
            exist in both layouts, in neither, or twice. The message names file and line.
    """
    raw = Path(raw)
    listed = split_files(raw, domain)
    readers = [
        reader
        for folder, reader in ((raw / "images" / domain, _gdrbench), (raw / domain, _published))
        if folder.is_dir()
    ]
    if not readers:
        raise DataError(
            f"no images of {domain}: put them into {raw / domain} (as published) or "
            f"{raw / 'images' / domain} (GDRBench's layout)."
        )
    if len(readers) > 1:
        raise DataError(
            f"images of {domain} in both {raw / domain} and {raw / 'images' / domain}: move one of "
            "the two folders away."
        )
    return readers[0](raw, domain, listed)


def refuse(reading: Reading, domain: str, tolerance: int, listed_at: str = "") -> str:
    """Refuse a reading with more problems than tolerated.

    Args:
        reading: Result of `read`.
        domain: Name of the domain.
        tolerance: Number of problems that are tolerated.
        listed_at: File in which the caller lists the problems, "" if none.

    Returns:
        One line about the problems, "" if there are none.

    Raises:
        DataError: With this line, if there are more problems than tolerated.
    """
    problems = reading.problems
    if problems.empty:
        return ""
    total = len(reading.records) + int((problems["problem"] == "missing").sum())
    kinds = ", ".join(
        f"{count} {kind} ({PROBLEM_TEXT[str(kind)]})"
        for kind, count in problems["problem"].value_counts(sort=False).items()
    )
    first = problems.iloc[0]
    line = (
        f"{domain}: {len(problems)} of {total} images that the split files name have a problem: "
        f"{kinds}; the first is {first['image']} ({first['where']})"
    )
    if listed_at:
        line += f"; all of them: {listed_at}"
    if len(problems) > tolerance:
        raise DataError(
            f"{line}. Complete the folder, or allow as many (tolerance: {len(problems)}; it is "
            f"{tolerance})."
        )
    return f"{line}. Tolerated (tolerance: {tolerance})"


def split_files(raw: Path, domain: str) -> list[Listed]:
    """Read the lines of a domain's two split files, train first.

    Args:
        raw: Folder with splits/.
        domain: A key of DOMAINS.

    Returns:
        The lines in order.

    Raises:
        DataError: As `read` does.
    """
    if domain not in DOMAINS:
        raise DataError(f"unknown domain {domain!r}: use one of {', '.join(DOMAINS)}.")
    listed: list[Listed] = []
    lines: dict[str, str] = {}  # image -> file and line
    for split, path in zip(SPLITS, _split_paths(raw, domain), strict=True):
        for number, line in _lines(path):
            where = f"{path}, line {number}"
            image, grade = _row(line, domain, where)
            if image in lines:
                raise DataError(
                    f"{where}: {image} is listed twice, first in {lines[image]}. Keep one of the "
                    "two lines."
                )
            lines[image] = where
            listed.append(Listed(image, grade, split, where))
    return listed


def counts_report(records: pd.DataFrame, domain: str) -> str:
    """Compare the number of images per split and grade with the official split files.

    Args:
        records: Columns split and grade.
        domain: Name of the domain.

    Returns:
        The differences in one line, "" if there are none or no official files exist.
    """
    official = DOMAINS[domain].counts if domain in DOMAINS else None
    if official is None:
        return ""
    actual = Counter(zip(records["split"], records["grade"], strict=True))
    differences = [
        f"{split} grade {grade}: {actual[split, grade]} of {expected}"
        for split, counts in official.items()
        for grade, expected in enumerate(counts)
        if actual[split, grade] != expected
    ]
    return "; ".join(differences)


def check_counts(records: pd.DataFrame, domain: str) -> None:
    """Check that every split holds the official number of images of every grade.

    Args:
        records: Columns split and grade.
        domain: Name of the domain.

    Raises:
        DataError: If a number differs.
    """
    difference = counts_report(records, domain)
    if difference:
        raise DataError(
            f"{domain} is not complete ({difference}): take GDRBench's official split files, or do "
            "not ask for a complete domain."
        )


def patient_and_eye(domain: str, image: str) -> tuple[str, str]:
    """Read patient and eye from the name of a file.

    Args:
        domain: A key of DOMAINS.
        image: Path of the image.

    Returns:
        Patient and eye ("left" or "right"), both "" where the name does not tell them.
    """
    pattern = DOMAINS[domain].patient
    match = re.fullmatch(pattern, PurePosixPath(image).stem) if pattern else None
    if match is None:
        return "", ""
    return match["patient"], EYES.get(match["eye"], match["eye"])


def _gdrbench(raw: Path, domain: str, listed: list[Listed]) -> Reading:
    """Read raw/images/DOMAIN/FOLDER/FILE; the split files hold all information."""
    rows, problems = [], []
    for line in listed:
        file = f"images/{line.image}"
        if (raw / file).is_file():
            patient, eye = patient_and_eye(domain, line.image)
            rows.append((line.image, file, line.grade, domain, line.split, patient, eye, ""))
        else:
            problems.append((line.image, "missing", line.grade, "", line.where))
    images = sum(
        path.lower().endswith(published_layouts.SUFFIXES)
        for path in published_layouts.walk(raw / "images" / domain)
    )
    return _reading(rows, problems, max(images - len(rows), 0), _split_paths(raw, domain))


def _published(raw: Path, domain: str, listed: list[Listed]) -> Reading:
    """Read raw/DOMAIN/...; images are matched by name, and grades compared with the own labels."""
    folder = raw / domain
    images = published_layouts.images(folder, domain)
    labels = published_layouts.labels(folder, domain)
    rows, problems = [], []
    for line in listed:
        key = published_layouts.image_key(domain, line.split, line.image)
        files, label = images.pop(key, []), labels.get(key)
        if not files:
            problems.append((line.image, "missing", line.grade, "", line.where))
            continue
        if len(files) > 1:
            raise DataError(
                f"{folder}: {line.image} may be {' or '.join(files)}. Keep one of them there."
            )
        if labels and (label is None or label.grade is None):
            where = label.where if label else line.where
            problems.append((line.image, "ungraded", line.grade, "", where))
        elif label and label.grade != line.grade:
            where = f"{line.grade} in {line.where}, {label.grade} in {label.where}"
            problems.append((line.image, "grade", line.grade, label.grade, where))
        patient, eye = patient_and_eye(domain, line.image)
        # DeepDRiD's patient 56 has grades of the other eye than the names state. The column that
        # holds the grade decides.
        eye = (label and label.eye) or eye
        file = f"{domain}/{files[0]}"
        rows.append((line.image, file, line.grade, domain, line.split, patient, eye, ""))
    label_files = [path for path, _ in published_layouts.label_files(folder, domain)]
    lists = [*_split_paths(raw, domain), *label_files]
    return _reading(rows, problems, sum(map(len, images.values())), lists)


def _reading(rows: list[Any], problems: list[Any], extra: int, lists: list[Path]) -> Reading:
    """Create a reading from tuples."""
    return Reading(
        pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(problems, columns=PROBLEMS), extra, lists
    )


def _split_paths(raw: Path, domain: str) -> list[Path]:
    """Return the paths of a domain's split files, train first."""
    return [Path(raw) / "splits" / f"{domain}_{name}.txt" for name in SPLITS.values()]


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number from 1, text) of every line that is not blank.

    CRLF line ends and a byte order mark are accepted.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no split file {path}: put GDRBench's split files there (`clipdr fetch splits` does), "
            "or name another folder as raw."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8. Save the split file as plain UTF-8 text."
        ) from None
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise DataError(f"{path}: the split file is empty. Download it again.")
    return lines


def _row(line: str, domain: str, where: str) -> tuple[str, int]:
    """Parse a line of a split file; return path and grade."""
    image, _, grade = line.rpartition(" ")
    image = image.rstrip()
    if not image or "\\" in image or "\0" in image:
        raise DataError(
            f"{where}: {line!r} is not `path grade`. Write the path with forward slashes, one "
            "space, the grade."
        )
    if grade not in {str(number) for number in range(len(GRADES))}:
        raise DataError(
            f"{where}: grade {grade!r} of {image} is none of 0..4. Correct it or remove the line."
        )
    parts = PurePosixPath(image).parts
    if image.startswith("/") or ".." in parts or "." in image.split("/") or "" in image.split("/"):
        raise DataError(
            f"{where}: {image} leaves the folder images/. Write a plain path relative to it."
        )
    if parts[0] != domain or len(parts) != 3:
        raise DataError(
            f"{where}: {image} is not {domain}/FOLDER/FILE. List images of {domain} only."
        )
    if parts[1] not in (FOLDERS[int(grade)], FLAT.get(domain)):
        raise DataError(
            f"{where}: folder {parts[1]} contradicts grade {grade} of {image} (its folder is "
            f"{FOLDERS[int(grade)]}). Correct one of them."
        )
    return image, int(grade)
