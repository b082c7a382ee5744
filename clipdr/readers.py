"""From GDRBench's split files to the rows of a domain.

Input: raw/splits/{D}_train.txt and {D}_crossval.txt (`path grade` per line, path relative to raw/images/). Output: one row per photograph.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

import pandas as pd

from clipdr import GRADES, DataError
from clipdr.domains import DOMAINS, FOLDERS

SPLITS = {"train": "train", "val": "crossval"}  # our word -> the word in the file's name
FLAT = {"EYEPACS": "Images"}  # the one domain whose official lists know no grade folders
EYES = {"l": "left", "r": "right"}
COLUMNS = ["image", "grade", "domain", "split", "patient", "eye", "camera"]


def gdrbench(raw: Path, domain: str) -> pd.DataFrame:
    """Photographs of one domain in GDRBench's layout (Che et al., 2023), train before val, in file order.

    raw     : folder with splits/ and images/
    domain  : a key of DOMAINS
    returns   image (str, POSIX path below raw/images, the key), grade (int, 0..4), domain, split ("train" | "val"),
              patient (str, "" unknown; unique within the domain only), eye ("left" | "right" | ""), camera (str, "" unknown)

    Raises DataError, naming file and line: a missing split file or photograph, a line that is not `path grade`, a grade outside 0..4,
    a path that is absolute, climbs with `..` or belongs to another domain, a folder that contradicts the grade, a path listed twice.
    """
    if domain not in DOMAINS:
        raise DataError(f"unknown domain {domain!r}: use one of {', '.join(DOMAINS)}")
    raw = Path(raw)
    rows, seen = [], {}
    for split, word in SPLITS.items():
        path = raw / "splits" / f"{domain}_{word}.txt"
        for number, line in _lines(path):
            where = f"{path}, line {number}"
            image, grade = _row(line, domain, where)
            if image in seen:
                raise DataError(f"{where}: {image} is listed twice, first in {seen[image]}; keep one of the two lines")
            seen[image] = where
            rows.append((image, grade, domain, split, *_patient(domain, image), ""))
    missing = [image for image in seen if not (raw / "images" / image).is_file()]
    if missing:
        raise DataError(
            f"{seen[missing[0]]}: no photograph {raw / 'images' / missing[0]} ({len(missing)} of {len(seen)} listed are missing); "
            f"put them there or take their lines out"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def counts_report(records: pd.DataFrame, domain: str) -> str:
    """Where the photographs per split and grade differ from the official split files; "" if they agree or no official files exist."""
    official = DOMAINS[domain].counts
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


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, text) of every line that is not blank; CRLF and a byte order mark are tolerated."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no split file {path}: put GDRBench's splits/ and images/ below one folder and name that folder as raw") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the split file as plain UTF-8 text") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: the split file is empty; download it again")
    return lines


def _row(line: str, domain: str, where: str) -> tuple[str, int]:
    image, _, grade = line.rpartition(" ")
    image = image.rstrip()
    if not image or "\\" in image or "\0" in image:
        raise DataError(f"{where}: {line!r} is not `path grade`; write the path with forward slashes, one space, the grade")
    if grade not in {str(number) for number in range(len(GRADES))}:
        raise DataError(f"{where}: grade {grade!r} of {image} is none of 0..4; correct it or take the line out")
    parts = PurePosixPath(image).parts
    if image.startswith("/") or ".." in parts or "." in image.split("/") or "" in image.split("/"):
        raise DataError(f"{where}: {image} leaves the folder images/; write a plain path relative to it")
    if parts[0] != domain or len(parts) != 3:
        raise DataError(f"{where}: {image} is not {domain}/FOLDER/FILE; this file may list photographs of {domain} only")
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
