"""Data format of the released RET-CLIP code, read as a patients table.

Input: {split}_imgs.tsv (patient_id, left and right image as base64, separated by tabs) and
{split}_texts.jsonl. Files are read line by line, within limits. Images are written as files named
by their sha256. The released LMDB holds pickles and is never read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipdr import DataError
from clipdr.artifacts.files import replacing
from clipdr.data.preprocessing.image_io import decode_bytes
from clipdr.pretrain.data.patients_table import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 64 * 2**20  # of one image
MAX_LINE = 3 * MAX_BYTES  # of one line of a file
MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
STANDARD = str.maketrans("-_", "+/")  # the released code writes URL-safe base64; both are read


def read_splits(
    folder: str | Path, out: str | Path, dataset: str, language: str = "zh"
) -> pd.DataFrame:
    """Read all splits of a release; print each id that only one file of a split holds.

    Args:
        folder: Folder with {split}_imgs.tsv and {split}_texts.jsonl; a split may be missing.
        out: Folder for the images.
        dataset: Name of the data set in the table.
        language: Language of the reports.

    Returns:
        As `read`, all splits.

    Raises:
        DataError: If the folder has no split, or as `read`.
    """
    tables = []
    for split in SPLITS:
        if (Path(folder) / f"{split}_imgs.tsv").is_file():
            table, dropped = read(folder, split, out, dataset, language)
            tables.append(table)
            for entry in dropped:
                print(f"{split}: {entry} has no counterpart and was left out")
    if not tables:
        files = ", ".join(f"{split}_imgs.tsv" for split in SPLITS)
        raise DataError(
            f"{folder}: found none of {files}. Give the folder of the RET-CLIP release."
        )
    return pd.concat(tables, ignore_index=True)


def read(
    folder: str | Path, split: str, out: str | Path, dataset: str, language: str = "zh"
) -> tuple[pd.DataFrame, list[str]]:
    """Read one split: one row per pair of a text and one of its patients.

    Args:
        folder: Folder with {split}_imgs.tsv and {split}_texts.jsonl.
        split: Name of the split.
        out: Folder for the images; the paths of the table lie below it.
        dataset: Name of the data set in the table.
        language: Language of the reports.

    Returns:
        A patients table, whose visit_id is the text_id; and the ids that only one of the two files
        has, as "image ID" and "text ID". Equal bytes in both slots are one eye of unknown side: a
        left image with side_known 0.

    Raises:
        DataError: If a line is no base64, too long, no JPEG or PNG image, truncated, of a duplicate
            id, or broken JSON; the message names file and line.
    """
    images = _images(Path(folder) / f"{split}_imgs.tsv", Path(out))
    rows, used, missing = [], set(), set()
    for text_id, text, patients in _texts(Path(folder) / f"{split}_texts.jsonl"):
        for patient in patients:
            if patient not in images:
                missing.add(f"text {patient}")
                continue
            used.add(patient)
            left, right = images[patient]
            two_eyes = left != right
            rows.append(
                {
                    "dataset": dataset,
                    "patient_id": patient,
                    "visit_id": text_id,
                    "left_image": left,
                    "right_image": right if two_eyes else "",
                    "text": text,
                    "language": language,
                    "split": split,
                    "side_known": str(int(two_eyes)),
                }
            )
    dropped = sorted(missing) + sorted(f"image {patient}" for patient in set(images) - used)
    if not rows:
        raise DataError(
            f"{folder}: no patient of {split} has both images and a text. Check the ids."
        )
    return pd.DataFrame(rows), dropped


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a UTF-8 file; refuse a line longer than MAX_LINE."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. The format has one file of images and one of texts per split."
        )
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{path}, line {number}: longer than {MAX_LINE:,} bytes. Shorten it."
                )
            try:
                yield number, line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                raise DataError(
                    f"{path}, line {number}: not UTF-8. Write the file as UTF-8."
                ) from None


def _images(path: Path, out: Path) -> dict[str, tuple[str, str]]:
    """Return {patient_id: (left, right)}, paths below out."""
    images: dict[str, tuple[str, str]] = {}
    for number, line in _lines(path):
        try:
            patient, *eyes = line.split("\t")
            if len(eyes) != 2 or not patient:
                raise DataError(
                    f"{1 + len(eyes)} columns. Give patient_id, left and right, separated by tabs."
                )
            if patient in images:
                raise DataError(f"patient {patient} is in an earlier line. Give each id once.")
            left, right = (_write_image(encoded, out) for encoded in eyes)
            images[patient] = left, right
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return images


def _write_image(encoded: str, out: Path) -> str:
    """Write a base64 image below out and return its name; limits and format precede decoding."""
    if len(encoded) > MAX_BYTES * 4 / 3 + 4:
        raise DataError(f"an image of more than {MAX_BYTES:,} bytes. Store a smaller file.")
    try:
        content = base64.b64decode(
            encoded.translate(STANDARD) + "=" * (-len(encoded) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        raise DataError("not base64. Encode the bytes of the image file.") from None
    suffix = next((suffix for magic, suffix in MAGIC.items() if content.startswith(magic)), None)
    if suffix is None:
        raise DataError("not a JPEG or PNG image. Convert it.")
    decode_bytes(content, None)
    name = hashlib.sha256(content).hexdigest() + suffix
    if not (out / name).is_file():
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)
    return name


def _texts(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (text_id, text, patient ids)."""
    ids: set[str] = set()
    for number, line in _lines(path):
        try:
            entry = json.loads(line)
            text_id, text, patients = (
                str(entry["text_id"]),
                entry["text"],
                [str(patient) for patient in entry["image_ids"]],
            )
            if not isinstance(text, str) or not patients:
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(
                f"{path}, line {number}: not an object with text_id, text and image_ids. "
                "Correct the line."
            ) from None
        if text_id in ids:
            raise DataError(
                f"{path}, line {number}: text {text_id} is in an earlier line. Give each id once."
            )
        ids.add(text_id)
        yield text_id, text, patients
