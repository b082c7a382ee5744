"""Preparation of a domain: image files cropped to their disc and packed into one array.

Input are the image files and lists of a domain (clipdr.data.sources.gdrbench or custom). Output are
data/store/{D}.npy (N, S, S, 3) uint8, data/manifests/{D}.csv (one row per image, in the order of
the array) and a list of rejected files with reasons. Any number of processes writes the same bytes.
Only pixels and the columns of the lists are written: EXIF, XMP, comments, thumbnails and colour
profiles are dropped.
"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from clipdr import GRADES, DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import write_text
from clipdr.data.domains import DOMAINS
from clipdr.data.manifest import DTYPES
from clipdr.data.preprocessing import fundus, text_detection
from clipdr.data.preprocessing.image_array import ImageArrayWriter, map_in_processes
from clipdr.data.preprocessing.image_io import decode_bytes
from clipdr.data.sources import custom, gdrbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipdr.data.sources.gdrbench import Reading

REJECTED = ["image", "grade", "split", "reason"]


class Prepared(NamedTuple):
    """One image as it is stored; a rejected one has only a reason.

    Attributes:
        reason: Why the file was rejected, "" if it is used.
        image: (S, S, 3) uint8.
        disc: (5,) float32: cx, cy, r, w, h in pixels of the stored square.
        extent: Width and height of the upright image in the file, pixels.
        flag: Words out of "no_disc", "squeezed" and "text", separated by spaces.
        sha256: Hexadecimal digest of the file.
        phash: Perceptual hash of the stored square, hexadecimal, 64 bits.
    """

    reason: str = ""
    image: np.ndarray = np.zeros((0, 0, 3), np.uint8)
    disc: np.ndarray = np.zeros(5, np.float32)
    extent: tuple[int, int] = (0, 0)
    flag: str = ""
    sha256: str = ""
    phash: str = ""


def prepare(
    domain: str,
    raw: Path,
    manifest: Path,
    store: Path,
    rejected: Path,
    size: int,
    processes: int,
    complete: bool = False,
    tolerance: int = 0,
    table: Path | None = None,
    receipt: Path | None = None,
) -> None:
    """Prepare all images of a domain and print a summary line.

    The three files appear together at the end, the manifest last.

    Args:
        domain: Name of the domain.
        raw: Folder with splits/ and the images (gdrbench.read); ignored where a table is given.
        manifest: CSV file to write, one row per image in use (manifest.DTYPES).
        store: Array file to write.
        rejected: CSV file to write with the columns image, grade, split, reason: unreadable files
            and images that are no fundus images. They are in neither of the other files.
        size: Side S of the stored square in pixels.
        processes: Largest number of worker processes.
        complete: Refuse a domain whose counts differ from the official split files.
        tolerance: Number of images of the split files that may be missing, or graded otherwise by
            the dataset's own labels. They are always listed in {D}_splits.csv beside `rejected`.
        table: Table of a custom dataset (custom.read); `raw` is then its folder.
        receipt: File to write after the manifest, {data}/receipts/{D}.json
            (receipts.write_prepared); None writes none.

    Raises:
        DataError: As gdrbench.read and custom.read do, and where no image can be used.
    """
    raw = Path(table).parent if table else Path(raw)
    reading = custom.read(table, domain) if table else gdrbench.read(raw, domain)
    problems = Path(rejected).with_name(f"{domain}_splits.csv")
    _report(reading, domain, problems, tolerance)
    records = reading.records
    if complete:
        gdrbench.check_counts(records, domain)
    rows, refused = pack(records, domain, raw, manifest, store, rejected, size, processes)
    if receipt:
        _seal(
            receipt,
            domain,
            [manifest, store, rejected, *([problems] if problems.is_file() else [])],
            raw,
            reading,
            rows,
            size,
        )
    print(_summary(rows, refused, reading.extra, domain))


def pack(
    records: pd.DataFrame,
    domain: str,
    raw: Path,
    manifest: str | Path,
    store: str | Path,
    rejected: str | Path,
    size: int,
    processes: int,
) -> tuple[pd.DataFrame, list[tuple]]:
    """Write the three files of a domain together, the manifest last.

    Args:
        records: Columns image, file (below raw), grade (-1 unknown), split, patient, eye, camera.
        domain: As in `prepare`, like the other arguments.
        raw: Folder of the files.
        manifest: CSV file to write.
        store: Array file to write.
        rejected: CSV file to write.
        size: Side of the stored square in pixels.
        processes: Largest number of worker processes.

    Returns:
        The manifest, and the rows of the rejected list (image, grade, split, reason).

    Raises:
        DataError: No image can be used.
    """
    manifest, store, rejected = (Path(path) for path in (manifest, store, rejected))
    files = {path: path.with_name(f".{path.name}.part") for path in (store, rejected, manifest)}
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        kept, refused = _write(records, domain, raw, files[store], size, processes)
        if not kept:
            raise DataError(
                f"{domain}: none of {len(records)} images could be used. "
                f"The first, {refused[0][0]}, was rejected: {refused[0][3]}. "
                f"Check the folder {raw}."
            )
        rows = pd.DataFrame(kept, columns=list(DTYPES)).astype(DTYPES)
        rows.to_csv(files[manifest], index=False, float_format="%.3f", lineterminator="\n")
        pd.DataFrame(refused, columns=REJECTED).to_csv(
            files[rejected], index=False, lineterminator="\n"
        )
        manifest.unlink(missing_ok=True)  # an old manifest must not stand beside a new store
        for path, temporary in files.items():
            temporary.replace(path)
    finally:
        for temporary in files.values():
            temporary.unlink(missing_ok=True)
    return rows, refused


def _seal(
    path: Path,
    domain: str,
    written: Sequence[Path],
    raw: Path,
    reading: Reading,
    rows: pd.DataFrame,
    size: int,
) -> None:
    """Write the receipt of a domain.

    Images in use were hashed when they were read; rejected ones are hashed here.
    """
    digests = dict(zip(rows["image"], rows["sha256"], strict=True))
    images = {record.file: digests.get(record.image) for record in reading.records.itertuples()}
    counts = {
        split: [
            int(((rows["split"] == split) & (rows["grade"] == grade)).sum())
            for grade in range(len(GRADES))
        ]
        for split in gdrbench.SPLITS
    }
    facts = {
        "size": size,
        "images": len(rows),
        "rejected": len(reading.records) - len(rows),
        "counts": counts,
    }
    if domain in DOMAINS:
        facts |= {"title": DOMAINS[domain].title, "licence": DOMAINS[domain].licence}
    receipts.write_prepared(path, domain, written, raw, images, reading.lists, **facts)


def _report(reading: Reading, domain: str, path: Path, tolerance: int) -> None:
    """List the problems of a reading in a file and print one line, or remove an old list.

    Raises DataError where there are more problems than tolerated.
    """
    if reading.problems.empty:
        path.unlink(missing_ok=True)
        return
    write_text(path, reading.problems.to_csv(index=False, lineterminator="\n"))
    print(gdrbench.refuse(reading, domain, tolerance, str(path)))


def prepare_image(path: str | Path, domain: str, size: int) -> Prepared:
    """Decode, clean, judge and crop one image file.

    It is decoded at the smallest scale that leaves `size` pixels across its circle.

    Args:
        path: Image file.
        domain: Name of the domain, which selects the cleaning (fundus.CLEANERS).
        size: Side S of the stored square in pixels.
    """
    import imagehash

    data = Path(path).read_bytes()
    try:
        decoded, extent = decode_bytes(data, size)
        image = fundus.clean(decoded, domain)
        detection = fundus.detect(image)
        if detection.reason:
            return Prepared(detection.reason)
        circle = detection.circle
        text = text_detection.has_burnt_in_text(decoded, circle)
        text = text or fundus.has_red_text(decoded, domain)
        flags = [detection.flag] * bool(detection.flag) + ["text"] * text
        width = image.shape[1]
        # A small disc in a large image is decoded once more, at a finer scale.
        if width < extent[0] and circle is not None and 2 * circle.r < size:
            image = fundus.clean(
                decode_bytes(data, math.ceil(size * min(image.shape[:2]) / (2 * circle.r)))[0],
                domain,
            )
            circle = fundus.Circle(*(value * image.shape[1] / width for value in circle))
    except DataError as error:
        return Prepared(str(error))
    square, disc = fundus.crop(image, circle, size)
    return Prepared(
        "",
        square,
        disc,
        extent,
        " ".join(flags),
        hashlib.sha256(data).hexdigest(),
        str(imagehash.phash(Image.fromarray(square))),
    )


def _write(
    records: pd.DataFrame, domain: str, raw: Path, path: Path, size: int, processes: int
) -> tuple[list[tuple], list[tuple]]:
    """Stream images to a .npy file; return the manifest's rows and the rejected ones."""
    kept, refused = [], []
    task = partial(prepare_image, domain=domain, size=size)
    results = map_in_processes(task, [raw / file for file in records["file"]], processes, domain)
    with ImageArrayWriter(path, size, len(records)) as writer:
        for record, prepared in zip(records.itertuples(), results, strict=True):
            if prepared.reason:
                refused.append((record.image, record.grade, record.split, prepared.reason))
                continue
            row = (record.image, writer.count, domain, record.grade, record.split)
            row += (record.patient, record.eye, record.camera, *prepared.disc, *prepared.extent)
            kept.append((*row, prepared.flag, prepared.sha256, prepared.phash))
            writer.add(prepared.image)
    return kept, refused


def _summary(table: pd.DataFrame, refused: Sequence[tuple], unlisted: int, domain: str) -> str:
    """Return the line that `prepare` prints."""
    flags = [set(flag.split()) for flag in table["flag"]]
    whole = sum(bool({"no_disc", "squeezed"} & words) for words in flags)
    text = sum("text" in words for words in flags)
    line = f"{domain}: {len(table)} images prepared, {len(refused)} rejected"
    line += f", {whole} without a disc"
    if text:
        line += f", {text} with burnt-in text (flag `text` in the manifest)"
    if unlisted:
        line += f", {unlisted} more in the folder that no split file lists"
    official = DOMAINS[domain].counts if domain in DOMAINS else None
    if official is None:
        return line
    return f"{line}; official split files hold {sum(map(sum, official.values()))}"
