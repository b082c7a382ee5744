"""Synthetic datasets with known lesions, written in GDRBench's layout.

Input are domains, number of patients, size and seed. Output are images/, splits/ and patients.csv.
Every byte follows from (seed, domain, patient, eye), independent of the number of processes, the
order of work and the other domains. `lesion_mask` renders the lesions of a written image again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from clipdr import DataError
from clipdr.data.domains import FOLDERS
from clipdr.data.synthetic.cameras import STYLES
from clipdr.data.synthetic.patients import COLUMNS, WORDS, Patient, cohort, eye, image_path, record
from clipdr.data.synthetic.renderer import render

SPLITS = {"train": "train", "val": "crossval"}  # split -> its name in GDRBench's split files
ENCODINGS = {".png": {"format": "PNG", "compress_level": 1}, ".jpg": {"format": "JPEG"}}


def write(
    root: Path, domains: list[str], patients: int, size: int, seed: int, processes: int
) -> None:
    """Write synthetic domains: images/, splits/ and patients.csv.

    patients.csv has one row per patient of these domains and the columns COLUMNS. Files in the
    domains' image folders that do not belong to these patients and grades (of a run with another
    seed) are removed.

    Args:
        root: Folder to write to.
        domains: Names of synthetic domains.
        patients: Number of patients per domain.
        size: Nominal side of an image in pixels, at least 64.
        seed: 0 or more.
        processes: Number of workers; 1 works in this process.

    Raises:
        DataError: A domain is not synthetic, or a number is out of range.
    """
    if size < 64 or seed < 0 or processes < 1:
        raise DataError(
            f"synthetic dataset: size {size}, seed {seed} or processes {processes} is too small. "
            "Give at least 64, 0 and 1."
        )
    people = {domain: cohort(domain, patients, seed) for domain in domains}
    everyone = [patient for group in people.values() for patient in group]
    _prepare(root, people)
    _each(partial(_write_images, root=root, size=size, seed=seed), everyone, processes)
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


def lesion_mask(image: str, size: int, seed: int) -> np.ndarray:
    """Return the lesion mask of a written image.

    Args:
        image: Path below `images/`, such as SIM_IDRID/pdr/p0001_left.jpg.
        size: Size it was written with.
        seed: Seed it was written with.

    Returns:
        (H, W) bool in the pixels of the image.

    Raises:
        DataError: The path is not one of a synthetic image.
    """
    match = re.fullmatch(r"([^/]+)/([^/]+)/p(\d+)_(left|right)\.\w+", image)
    if match is None or match[2] not in FOLDERS:
        raise DataError(
            f"{image!r}: not the path of a synthetic image. "
            "Give a path such as SIM_IDRID/pdr/p0001_left.jpg."
        )
    domain, folder, number, side = match.groups()
    return render(eye(domain, int(number), side, FOLDERS.index(folder), seed), size)[1]


def encode(image: np.ndarray, suffix: str, quality: int) -> bytes:
    """Encode an image as the bytes of a file.

    Args:
        image: (H, W, 3) uint8 RGB.
        suffix: A key of ENCODINGS.
        quality: JPEG quality, 1..95; unused for PNG.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **ENCODINGS[suffix], quality=quality)
    return buffer.getvalue()


def _images(patient: Patient) -> list[tuple[str, int]]:
    """Paths and grades of a patient's images."""
    return [
        (image_path(patient.domain, patient.number, side, grade), grade)
        for side, grade in patient.grades.items()
    ]


def _write_images(patient: Patient, root: Path, size: int, seed: int) -> None:
    """Render and write the images of one patient."""
    for side, grade in patient.grades.items():
        rendered = eye(patient.domain, patient.number, side, grade, seed)
        style = STYLES[rendered.style]
        quality = int(
            np.random.default_rng((*rendered.key, WORDS)).integers(
                style.quality[0], style.quality[1] + 1
            )
        )
        path = root / "images" / image_path(patient.domain, patient.number, side, grade)
        _save(path, encode(render(rendered, size)[0], style.suffix, quality))


def _prepare(root: Path, people: dict[str, list[Patient]]) -> None:
    """Make the folders, and remove images that do not belong to these patients."""
    (root / "splits").mkdir(parents=True, exist_ok=True)
    for domain, group in people.items():
        for folder in FOLDERS:
            (root / "images" / domain / folder).mkdir(parents=True, exist_ok=True)
        belongs = {root / "images" / path for patient in group for path, _ in _images(patient)}
        for old in set((root / "images" / domain).glob("*/*")) - belongs:
            old.unlink()


def _each(work: Callable[[Patient], None], items: list[Patient], processes: int) -> None:
    """Apply `work` to all items with a progress bar, in several processes if more than one."""

    def watch(results: Iterable[None]) -> None:
        for _ in track(results, description="generating patients", total=len(items)):
            pass

    if processes == 1:
        watch(map(work, items))
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            watch(pool.map(work, items, chunksize=4))


def _save(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
