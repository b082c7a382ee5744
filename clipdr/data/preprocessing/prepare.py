"""The packed store: photographs cut to their disc, written as one array per domain and mapped back.

Input: photographs and lists (clipdr.data.sources.gdrbench, clipdr.data.sources.custom). Output per domain: data/store/{D}.npy (N, S, S, 3) uint8,
data/manifests/{D}.csv (one row per photograph, in the order of the array) and a list of rejected files with their reasons. Any number of
processes writes the same bytes. Only pixels and the lists' own columns go into these files: EXIF, XMP, comments, thumbnails and colour
profiles stay behind.
"""

import hashlib
import math
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

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

REJECTED = ["image", "grade", "split", "reason"]


class Prepared(NamedTuple):
    """One photograph as it goes to the store; `reason` alone is set where it was rejected."""

    reason: str = ""
    image: np.ndarray | None = None  # (S, S, 3) uint8
    disc: np.ndarray | None = None  # (5,) float32
    extent: tuple[int, int] = (0, 0)  # width, height of the file's picture, upright, pixels
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
    """Prepare all photographs of a domain; the three files appear together at the end, the manifest last, and a summary line is printed.

    raw       : folder with splits/ and photographs (readers.read); of no concern where a table is given
    rejected  : CSV of image, grade, split, reason: what cannot be read or is no fundus photograph; such rows are in neither of the others
    size      : S, side of the stored square, pixels
    complete  : refuse a domain whose counts differ from the official split files
    tolerance : photographs of the split files that may be missing or graded otherwise by the data set's own labels; they are listed in
                {D}_splits.csv beside `rejected`, also where they are too many
    table     : of a data set of one's own (own.read), whose folder is then `raw`
    receipt   : {data}/receipts/{D}.json, written after the manifest where it is given (receipts.write_prepared)
    Raises DataError as readers.read and own.read do, and where no photograph can be used.
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


def pack(records, domain, raw, manifest, store, rejected, size, processes):
    """Write the three files of a domain together, the manifest last: its rows, those of the rejected list.

    records : frame of image, file (below raw), grade (-1 unknown), split, patient, eye, camera;  the others as `prepare`
    Raises DataError where no photograph can be used.
    """
    manifest, store, rejected = (Path(path) for path in (manifest, store, rejected))
    parts = {path: path.with_name(f".{path.name}.part") for path in (store, rejected, manifest)}
    for path in parts:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        kept, refused = _write(records, domain, raw, parts[store], size, processes)
        if not kept:
            raise DataError(
                f"{domain}: none of {len(records)} photographs could be used; the first, {refused[0][0]}: {refused[0][3]}"
            )
        rows = pd.DataFrame(kept, columns=list(DTYPES)).astype(DTYPES)
        rows.to_csv(parts[manifest], index=False, float_format="%.3f", lineterminator="\n")
        pd.DataFrame(refused, columns=REJECTED).to_csv(
            parts[rejected], index=False, lineterminator="\n"
        )
        manifest.unlink(missing_ok=True)  # an old manifest must not stand beside a new store
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return rows, refused


def _seal(path, domain, written, raw, reading, rows, size):
    """Write the receipt; the photographs in use were hashed when they were read, those that were rejected are hashed here."""
    digests = dict(zip(rows["image"], rows["sha256"], strict=True))
    photographs = {
        record.file: digests.get(record.image) for record in reading.records.itertuples()
    }
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
    receipts.write_prepared(path, domain, written, raw, photographs, reading.lists, **facts)


def _report(reading, domain, path, tolerance):
    """List the problems of a reading in a file, or remove an old list; print one line about them. DataError where they are too many."""
    if reading.problems.empty:
        path.unlink(missing_ok=True)
        return
    write_text(path, reading.problems.to_csv(index=False, lineterminator="\n"))
    print(gdrbench.refuse(reading, domain, tolerance, str(path)))


def photograph(path: Path, domain: str, size: int) -> Prepared:
    """One file, prepared: decoded at the smallest scale that leaves `size` pixels across its circle, judged, cleaned, cropped."""
    import imagehash

    data = Path(path).read_bytes()
    try:
        picture, extent = decode_bytes(data, size)
        image = fundus.clean(picture, domain)
        view = fundus.look(image)
        if view.reason:
            return Prepared(view.reason)
        circle = view.circle
        flags = [view.flag] * bool(view.flag) + ["text"] * (
            text_detection.burnt_in(picture, circle) or fundus.red_text(picture, domain)
        )
        width = image.shape[1]
        if (
            width < extent[0] and circle is not None and 2 * circle.r < size
        ):  # a small disc in a large picture: decode once more, finer
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


def _write(records, domain, raw, path, size, processes):
    """Stream images to a .npy file; returns the manifest's rows and the rejected ones."""
    kept, refused = [], []
    task = partial(photograph, domain=domain, size=size)
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


def _summary(table, refused, extra, domain):
    flags = table["flag"].str.split()
    whole, text = (
        int(sum(bool(seen & set(flag)) for flag in flags))
        for seen in ({"no_disc", "squeezed"}, {"text"})
    )
    line = f"{domain}: {len(table)} photographs prepared, {len(refused)} rejected, {whole} without a disc"
    if text:
        line += f", {text} with burnt-in text (flag `text` in the manifest)"
    if extra:
        line += f", {extra} more in the folder that no split file names"
    official = DOMAINS[domain].counts if domain in DOMAINS else None
    return (
        line
        if official is None
        else f"{line}; official split files hold {sum(map(sum, official.values()))}"
    )
