"""From GDRBench's split files, and the photographs in its own or in their original layout, to the rows of a domain.

Input: raw/splits/{D}_train.txt and {D}_crossval.txt (`path grade` per line) and the photographs in either raw/images/{D}/FOLDER/FILE
(GDRBench's layout) or raw/{D}/... (as published, clipdr.data.sources.published_layouts). Output: one row per photograph, the same in both cases.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from clipdr import GRADES, DataError
from clipdr.data.domains import DOMAINS, FOLDERS
from clipdr.data.sources import published_layouts

SPLITS = {"train": "train", "val": "crossval"}  # our word -> the word in the file's name
FLAT = {"EYEPACS": "Images"}  # the one domain whose official lists know no grade folders
EYES = {"l": "left", "r": "right"}
COLUMNS = ["image", "file", "grade", "domain", "split", "patient", "eye", "camera"]
PROBLEMS = ["image", "problem", "split_grade", "original_grade", "where"]
SAYS = {  # what may be wrong with a photograph that the split files name
    "missing": "no such photograph in the folder",
    "grade": "another grade in the data set's own labels",
    "ungraded": "no grade in the data set's own labels",
}


class Reading(NamedTuple):
    """What a reader found.

    records  : COLUMNS, one row per photograph that is there; the split file's grade wins over any other
    problems : PROBLEMS, one row per photograph that is missing, or of which the data set's own labels say something else
    extra    : photographs in the folder that no split names; they are not used
    lists    : the files that say what the photographs are: split files, label files
    """

    records: pd.DataFrame
    problems: pd.DataFrame
    extra: int
    lists: list[Path]


class Listed(NamedTuple):
    """One line of a split file."""

    image: str
    grade: int
    split: str
    where: str


def records(raw: Path, domain: str, tolerance: int = 0) -> pd.DataFrame:
    """Photographs of one domain, train before val, in the order of the split files.

    raw       : folder with splits/, and images/{D}/ or {D}/
    domain    : a key of DOMAINS
    tolerance : photographs that may be missing, or graded otherwise by the data set's own labels
    returns     image (str, path in the split file, the key), file (str, POSIX path below raw, where the bytes are), grade (int, 0..4),
                domain, split ("train" | "val"), patient (str, "" unknown; unique within the domain only), eye ("left" | "right" | ""),
                camera (str, "" unknown)

    Raises DataError as `read` does, and where there are more problems than tolerated.
    """
    reading = read(raw, domain)
    refuse(reading, domain, tolerance)
    return reading.records


def read(raw: Path, domain: str) -> Reading:
    """Photographs and problems of one domain, in whichever layout it has.

    Raises DataError, naming file and line: a missing split file, a line that is not `path grade`, a grade outside 0..4, a path that is
    absolute, climbs with `..` or belongs to another domain, a folder that contradicts the grade, a path listed twice, a malformed label
    file; photographs in both layouts, in neither, or twice.
    """
    raw = Path(raw)
    listed = split_files(raw, domain)
    here = [
        reader
        for folder, reader in ((raw / "images" / domain, _gdrbench), (raw / domain, _original))
        if folder.is_dir()
    ]
    if not here:
        raise DataError(
            f"no photographs of {domain}: put them into {raw / domain} (as published) or {raw / 'images' / domain} (GDRBench's layout)"
        )
    if len(here) > 1:
        raise DataError(
            f"photographs of {domain} in both {raw / domain} and {raw / 'images' / domain}; move one of the two folders away"
        )
    return here[0](raw, domain, listed)


def refuse(reading: Reading, domain: str, tolerance: int, listed_at: str = "") -> str:
    """One line about a reading's problems, "" without any; DataError with that line where there are more than tolerated.

    listed_at : the file in which the caller lists them
    """
    problems = reading.problems
    if problems.empty:
        return ""
    total = len(reading.records) + int((problems["problem"] == "missing").sum())
    kinds = ", ".join(
        f"{count} {kind} ({SAYS[kind]})"
        for kind, count in problems["problem"].value_counts(sort=False).items()
    )
    first = problems.iloc[0]
    line = f"{domain}: {len(problems)} of {total} photographs that the split files name have a problem: {kinds}"
    line += f"; the first is {first['image']} ({first['where']})" + (
        f"; all of them: {listed_at}" if listed_at else ""
    )
    if len(problems) > tolerance:
        raise DataError(
            f"{line}. Complete the folder, or allow so many (tolerance: {len(problems)}; it is {tolerance})"
        )
    return f"{line}. Tolerated (tolerance: {tolerance})"


def split_files(raw: Path, domain: str) -> list[Listed]:
    """The lines of a domain's two split files, train first. Raises DataError as `read` does."""
    if domain not in DOMAINS:
        raise DataError(f"unknown domain {domain!r}: use one of {', '.join(DOMAINS)}")
    listed, seen = [], {}
    for split, path in zip(SPLITS, _split_paths(raw, domain), strict=True):
        for number, line in _lines(path):
            where = f"{path}, line {number}"
            image, grade = _row(line, domain, where)
            if image in seen:
                raise DataError(
                    f"{where}: {image} is listed twice, first in {seen[image]}; keep one of the two lines"
                )
            seen[image] = where
            listed.append(Listed(image, grade, split, where))
    return listed


def counts_report(records: pd.DataFrame, domain: str) -> str:
    """Where the photographs per split and grade differ from the official split files; "" if they agree or no official files exist."""
    official = DOMAINS[domain].counts if domain in DOMAINS else None
    if official is None:
        return ""
    found = Counter(zip(records["split"], records["grade"], strict=True))
    differences = [
        f"{split} grade {grade}: {found[split, grade]} of {expected}"
        for split, counts in official.items()
        for grade, expected in enumerate(counts)
        if found[split, grade] != expected
    ]
    return "; ".join(differences)


def check_counts(records: pd.DataFrame, domain: str) -> None:
    """Raise DataError unless every split holds the official number of photographs of every grade."""
    difference = counts_report(records, domain)
    if difference:
        raise DataError(
            f"{domain} is not complete ({difference}); take GDRBench's official split files, or do not ask for a complete domain"
        )


def _gdrbench(raw: Path, domain: str, listed: list[Listed]) -> Reading:
    """raw/images/DOMAIN/FOLDER/FILE: the split files say all."""
    rows, problems = [], []
    for line in listed:
        file = f"images/{line.image}"
        if (raw / file).is_file():
            rows.append(
                (
                    line.image,
                    file,
                    line.grade,
                    domain,
                    line.split,
                    *_patient(domain, line.image),
                    "",
                )
            )
        else:
            problems.append((line.image, "missing", line.grade, "", line.where))
    pictures = sum(
        path.lower().endswith(published_layouts.SUFFIXES)
        for path in published_layouts.walk(raw / "images" / domain)
    )
    return _reading(rows, problems, max(pictures - len(rows), 0), _split_paths(raw, domain))


def _original(raw: Path, domain: str, listed: list[Listed]) -> Reading:
    """raw/DOMAIN/...: photographs are found by name, and the data set's own labels are compared with the split files' grades."""
    found, labels = (
        published_layouts.photographs(raw / domain, domain),
        published_layouts.labels(raw / domain, domain),
    )
    rows, problems = [], []
    for line in listed:
        key = published_layouts.key(domain, line.split, line.image)
        places, label = found.pop(key, []), labels.get(key)
        if not places:
            problems.append((line.image, "missing", line.grade, "", line.where))
            continue
        if len(places) > 1:
            raise DataError(
                f"{raw / domain}: {line.image} may be {' or '.join(places)}; keep one of them there"
            )
        if labels and (label is None or label.grade is None):
            problems.append(
                (line.image, "ungraded", line.grade, "", label.where if label else line.where)
            )
        elif labels and label.grade != line.grade:
            problems.append(
                (
                    line.image,
                    "grade",
                    line.grade,
                    label.grade,
                    f"{line.grade} in {line.where}, {label.grade} in {label.where}",
                )
            )
        patient, eye = _patient(domain, line.image)
        # DeepDRiD's patient 56 has grades of the other eye than the names say: the column that holds the grade decides
        rows.append(
            (
                line.image,
                f"{domain}/{places[0]}",
                line.grade,
                domain,
                line.split,
                patient,
                (label and label.eye) or eye,
                "",
            )
        )
    lists = [
        *_split_paths(raw, domain),
        *(path for path, _ in published_layouts.label_files(raw / domain, domain)),
    ]
    return _reading(rows, problems, sum(map(len, found.values())), lists)


def _reading(rows, problems, extra, lists):
    return Reading(
        pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(problems, columns=PROBLEMS), extra, lists
    )


def _split_paths(raw, domain):
    return [Path(raw) / "splits" / f"{domain}_{word}.txt" for word in SPLITS.values()]


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, text) of every line that is not blank; CRLF and a byte order mark are tolerated."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no split file {path}: put GDRBench's split files there (`clipdr fetch` does), or name another folder as raw"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save the split file as plain UTF-8 text"
        ) from None
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise DataError(f"{path}: the split file is empty; download it again")
    return lines


def _row(line: str, domain: str, where: str) -> tuple[str, int]:
    image, _, grade = line.rpartition(" ")
    image = image.rstrip()
    if not image or "\\" in image or "\0" in image:
        raise DataError(
            f"{where}: {line!r} is not `path grade`; write the path with forward slashes, one space, the grade"
        )
    if grade not in {str(number) for number in range(len(GRADES))}:
        raise DataError(
            f"{where}: grade {grade!r} of {image} is none of 0..4; correct it or take the line out"
        )
    parts = PurePosixPath(image).parts
    if image.startswith("/") or ".." in parts or "." in image.split("/") or "" in image.split("/"):
        raise DataError(
            f"{where}: {image} leaves the folder images/; write a plain path relative to it"
        )
    if parts[0] != domain or len(parts) != 3:
        raise DataError(
            f"{where}: {image} is not {domain}/FOLDER/FILE; this file may list photographs of {domain} only"
        )
    if parts[1] not in (FOLDERS[int(grade)], FLAT.get(domain)):
        raise DataError(
            f"{where}: folder {parts[1]} contradicts grade {grade} of {image} (its folder is {FOLDERS[int(grade)]}); correct one of them"
        )
    return image, int(grade)


def _patient(domain: str, image: str) -> tuple[str, str]:
    pattern = DOMAINS[domain].patient
    found = re.fullmatch(pattern, PurePosixPath(image).stem) if pattern else None
    if found is None:
        return "", ""
    return found["patient"], EYES.get(found["eye"], found["eye"])
