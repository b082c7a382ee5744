"""The released code's format: {split}_imgs.tsv (patient_id TAB left_b64 TAB right_b64) and {split}_texts.jsonl -> a patients table.

Read line by line, within limits; photographs are written as files, named by their sha256. The released LMDB holds pickles: never read.
"""

import base64
import binascii
import hashlib
import json
from pathlib import Path

import pandas as pd

from clipdr import DataError
from clipdr.artifacts.files import replacing
from clipdr.data.preprocessing.image_io import decode_bytes

MAX_BYTES = 64 * 2**20  # of one photograph
MAX_LINE = 3 * MAX_BYTES  # of one line of a file
MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
STANDARD = str.maketrans("-_", "+/")  # upstream decodes URL-safe base64; both are taken


def read(folder, split, out, dataset, language="zh"):
    """One split: one row per pair of a text and one of its patients; visit_id = text_id.

    folder  : with {split}_imgs.tsv and {split}_texts.jsonl;  out : folder for the photographs, below which the table's paths lie
    returns   (table, dropped): patients table; ids that only one of the two files has, as "image ID" and "text ID"
    Raises DataError naming file and line: wrong base64, oversized, no JPEG or PNG, truncated, duplicate id, broken JSON.
    Equal bytes in both slots are one eye of unknown side: a left image with side_known 0.
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
            known = left != right
            row = {
                "dataset": dataset,
                "patient_id": patient,
                "visit_id": text_id,
                "left_image": left,
                "right_image": right if known else "",
            }
            rows.append(
                row
                | {
                    "text": text,
                    "language": language,
                    "split": split,
                    "side_known": str(int(known)),
                }
            )
    dropped = sorted(missing) + sorted(f"image {patient}" for patient in set(images) - used)
    if not rows:
        raise DataError(f"{folder}: no patient of {split} has both images and a text")
    return pd.DataFrame(rows), dropped


def _lines(path):
    """(number, line) of a UTF-8 file; DataError where a line is longer than MAX_LINE."""
    if not path.is_file():
        raise DataError(
            f"no {path}: the upstream format has one file of images and one of texts per split"
        )
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DataError(f"{path}, line {number}: longer than {MAX_LINE:,} bytes")
            try:
                yield number, line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                raise DataError(f"{path}, line {number}: not UTF-8") from None


def _images(path, out):
    """{patient_id: (left, right)}, paths below out."""
    found = {}
    for number, line in _lines(path):
        try:
            patient, *eyes = line.split("\t")
            if len(eyes) != 2 or not patient:
                raise DataError(f"{1 + len(eyes)} columns, expected patient_id, left and right")
            if patient in found:
                raise DataError(f"patient {patient} stands above already")
            found[patient] = tuple(_photograph(encoded, out) for encoded in eyes)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return found


def _photograph(encoded, out):
    """Base64 -> name of the file that holds the photograph, below out. Limits and format come before any decoding of pixels."""
    if len(encoded) > MAX_BYTES * 4 / 3 + 4:
        raise DataError(f"a photograph of more than {MAX_BYTES:,} bytes")
    try:
        content = base64.b64decode(
            encoded.translate(STANDARD) + "=" * (-len(encoded) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        raise DataError("not base64") from None
    suffix = next((suffix for magic, suffix in MAGIC.items() if content.startswith(magic)), None)
    if suffix is None:
        raise DataError("not a JPEG or PNG image")
    decode_bytes(content, None)
    name = hashlib.sha256(content).hexdigest() + suffix
    if not (out / name).is_file():
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)
    return name


def _texts(path):
    """Yields (text_id, text, patient ids)."""
    seen = set()
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
                f"{path}, line {number}: not an object with text_id, text and image_ids"
            ) from None
        if text_id in seen:
            raise DataError(f"{path}, line {number}: text {text_id} stands above already")
        seen.add(text_id)
        yield text_id, text, patients
