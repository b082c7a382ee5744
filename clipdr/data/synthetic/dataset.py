"""Synthetic domains with known truth. Input: domains, patients, size, seed; output: GDRBench's folders and splits, and patients.csv.

Everything follows from (seed, domain, patient, eye): the number of processes, the order of work and the other domains change no byte of a
photograph, and `mask` draws the lesions of a written image again.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from rich.progress import track

from clipdr import DataError
from clipdr.data.domains import FOLDERS
from clipdr.data.synthetic.cameras import STYLES
from clipdr.data.synthetic.patients import COLUMNS, WORDS, Patient, cohort, eye, image_path, record
from clipdr.data.synthetic.renderer import paint

SPLITS = {"train": "train", "val": "crossval"}  # split -> its name in GDRBench's split files
ENCODINGS = {".png": {"format": "PNG", "compress_level": 1}, ".jpg": {"format": "JPEG"}}


def write(
    root: Path, domains: list[str], patients: int, size: int, seed: int, processes: int
) -> None:
    """Write the domains below `root`: images/, splits/, and patients.csv with one row per patient of these domains, columns COLUMNS.

    patients  : per domain
    size      : nominal side of a photograph in pixels, at least 64
    seed      : 0 or more
    processes : workers; 1 works in this process
    Raises DataError for a domain that is not synthetic and for numbers out of range. Files in the domains' image folders that do not belong
    to these patients and grades (of a run with another seed) are removed.
    """
    if size < 64 or seed < 0 or processes < 1:
        raise DataError(
            f"synthetic: size {size}, seed {seed}, processes {processes}; they must be at least 64, 0 and 1"
        )
    people = {domain: cohort(domain, patients, seed) for domain in domains}
    everyone = [patient for group in people.values() for patient in group]
    _prepare(root, people)
    _each(partial(_photograph, root=root, size=size, seed=seed), everyone, processes)
    for domain, group in people.items():
        for split, name in SPLITS.items():
            lines = [
                f"{path} {grade}\n"
                for patient in group
                if patient.split == split
                for path, grade in _images(patient)
            ]
            _save(root / "splits" / f"{domain}_{name}.txt", "".join(lines).encode())
    table = io.StringIO()
    rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(record(patient, seed) for patient in everyone)
    _save(root / "patients.csv", table.getvalue().encode())


def mask(image: str, size: int, seed: int) -> np.ndarray:
    """Lesion mask (H, W) bool of a written image, in its pixels.

    image : path below `images/`, such as SIM_IDRID/pdr/p0001_left.jpg
    size, seed : those it was written with
    Raises DataError where the path is not one that `write` makes.
    """
    parts = PurePosixPath(image).parts
    found = (
        re.fullmatch(r"p(\d+)_(left|right)\.\w+", parts[-1])
        if len(parts) == 3 and parts[1] in FOLDERS
        else None
    )
    if found is None:
        raise DataError(
            f"synthetic: {image!r} is not the path of a synthetic image; expected DOMAIN/FOLDER/p0001_left.jpg"
        )
    return paint(eye(parts[0], int(found[1]), found[2], FOLDERS.index(parts[1]), seed), size)[1]


def encode(photograph: np.ndarray, suffix: str, quality: int) -> bytes:
    """Photograph (H, W, 3) uint8 as a file's bytes. suffix: key of ENCODINGS; quality 1..95, of JPEG only."""
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, **ENCODINGS[suffix], quality=quality)
    return buffer.getvalue()


def _images(patient: Patient) -> list[tuple[str, int]]:
    return [
        (image_path(patient.domain, patient.number, side, grade), grade)
        for side, grade in patient.grades.items()
    ]


def _photograph(patient: Patient, root: Path, size: int, seed: int) -> None:
    """Paint and write the photographs of one patient."""
    for side, grade in patient.grades.items():
        one = eye(patient.domain, patient.number, side, grade, seed)
        style = STYLES[one.style]
        quality = int(
            np.random.default_rng((*one.key, WORDS)).integers(
                style.quality[0], style.quality[1] + 1
            )
        )
        path = root / "images" / image_path(patient.domain, patient.number, side, grade)
        _save(path, encode(paint(one, size)[0], style.suffix, quality))


def _prepare(root: Path, people: dict[str, list[Patient]]) -> None:
    """Make the folders, and remove what does not belong to these patients."""
    (root / "splits").mkdir(parents=True, exist_ok=True)
    for domain, group in people.items():
        for folder in FOLDERS:
            (root / "images" / domain / folder).mkdir(parents=True, exist_ok=True)
        belongs = {root / "images" / path for patient in group for path, _ in _images(patient)}
        for old in set((root / "images" / domain).glob("*/*")) - belongs:
            old.unlink()


def _each(work: Callable, items: list, processes: int) -> None:
    def watch(results: Iterable):
        for _ in track(results, description="painting patients", total=len(items)):
            pass

    if processes == 1:
        watch(map(work, items))
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            watch(pool.map(work, items, chunksize=4))


def _save(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
