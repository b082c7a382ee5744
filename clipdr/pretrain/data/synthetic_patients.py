"""Synthetic pre-training set; patients and camera styles are disjoint from every benchmark domain.

Input: number of patients, size, seed. Output: {raw}/images/ and a patients table. Every patient has
a random camera (format, colour, light, blur, noise), none of
`clipdr.data.synthetic.cameras.STYLES`. A patient has three visits: both eyes with the report, and
each eye alone with one sentence that names its grade, so that single eyes and short prompts are in
the trained space.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.files import replacing
from clipdr.data.domains import DOMAINS
from clipdr.data.synthetic.cameras import Format, Style
from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import SIDES, cohort, eye, record
from clipdr.data.synthetic.renderer import render
from clipdr.pretrain.data.packing import pack

if TYPE_CHECKING:
    from clipdr.data.synthetic.patients import Patient

NAME = "PRACTICE"  # of the data set, in manifests and tables
RENDERED = 192  # pixels, nominal side of a rendered image
RESERVED = 1000  # smaller seeds are those of benchmarks


def camera(rng: np.random.Generator) -> Style:
    """Sample a camera style, wide enough to hold most fundus cameras; lengths in field radii."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def pair(low: float, high: float, spread: float) -> tuple[float, float]:
        first = between(low, high)
        return first, first + between(0, spread)

    return Style(
        suffix=".jpg",
        formats=((Format(between(1, 1.5), between(0.46, 0.6)), 1.0),),
        gain=(between(0.85, 1.2), between(0.75, 1.2), between(0.4, 1.1)),
        quality=(60, 95),
        tint=between(0.02, 0.1),
        saturation=between(0.7, 1.2),
        exposure=pair(0.6, 0.9, 0.35),
        gamma=(between(0.85, 1.2), 0.06),
        vignette=pair(0.05, 0.25, 0.3),
        slope=(0.0, between(0.05, 0.35)),
        blur=pair(0.001, 0.004, 0.008),
        noise=between(0.006, 0.018),
        haze=(between(0, 0.5), between(0, 0.5)),
        ghost=between(0, 0.3),
        notch=float(rng.random() < 0.4),
        disc=(between(0.5, 0.66), between(0.05, 0.15)),
    )


def sentence(grade: int, rng: np.random.Generator) -> str:
    """Sample a sentence that names a grade: a prompt of the grading methods in one template."""
    from clipdr.models.prompts import BANKS, TEMPLATES

    bank = BANKS[rng.choice(sorted(BANKS))]
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(bank[grade])


def generate(
    raw: str | Path,
    data: str | Path,
    patients: int,
    stored: int,
    seed: int,
    size: int = RENDERED,
) -> pd.DataFrame:
    """Render the patients below raw/images and pack the images into `data`.

    Args:
        raw: Folder that receives images/.
        data: Folder that receives manifests/ and store/.
        patients: Number of patients, over the grade priors of all synthetic domains.
        stored: Side of the packed square in pixels.
        seed: Of the patients, `RESERVED` or more.
        size: Nominal side of a rendered image in pixels.

    Returns:
        A patients table with three rows per patient, and the labels D, N and grade (that of the
        worse eye of the row).

    Raises:
        DataError: If the seed is one of the benchmarks'.
    """
    from rich.console import Console
    from rich.progress import track

    if seed < RESERVED:
        raise DataError(
            f"practice: seed {seed} is taken, seeds below {RESERVED} are those of benchmark "
            "patients. Use a larger seed."
        )
    folder = Path(raw) / "images"
    rows: list[dict[str, Any]] = []
    domains = [name for name, domain in DOMAINS.items() if domain.synthetic]
    people = [
        patient
        for domain in domains
        for patient in cohort(domain, -(-patients // len(domains)), seed)
    ][:patients]
    for patient in track(people, "rendering patients", console=Console(stderr=True)):
        rows += _visits(patient, folder, seed, size)
    table = pd.DataFrame(rows).fillna("")
    worst = table[["grade_left", "grade_right"]].apply(pd.to_numeric).max(axis=1)
    table = table.assign(
        split="",
        grade=worst.astype(int).astype(str),
        D=(worst > 0).astype(int),
        N=(worst == 0).astype(int),
    )
    return pack(table, folder, data, stored, 1)


def _visits(patient: Patient, folder: Path, seed: int, size: int) -> list[dict[str, Any]]:
    """Render the eyes of a patient into a folder; returns the rows of the three visits."""
    rng = np.random.default_rng((seed, zlib.crc32(patient.domain.encode()), patient.number))
    style, row = camera(rng), record(patient, seed)
    key = {
        "dataset": NAME,
        "patient_id": f"{patient.domain}_{row['patient']}_{seed}",
        "language": "en",
    }
    rows: list[dict[str, Any]] = []
    for side, grade in patient.grades.items():
        name = f"{key['patient_id']}_{side}.jpg"
        quality = int(rng.integers(style.quality[0], style.quality[1] + 1))
        image, _ = render(eye(patient.domain, patient.number, side, grade, seed), size, style)
        with replacing(folder / name) as path:
            path.write_bytes(encode(image, ".jpg", quality))
        row[f"image_{side}"] = name
        single = {
            "visit_id": side,
            f"{side}_image": name,
            "text": sentence(grade, rng),
            f"grade_{side}": str(grade),
        }
        rows.append(key | single | {f"text_{side}": single["text"]})
    both = {f"{side}_image": row[f"image_{side}"] for side in SIDES} | {
        f"text_{side}": row[f"text_{side}"] for side in SIDES
    }
    both |= {f"grade_{side}": str(row[f"grade_{side}"]) for side in SIDES}
    return [*rows, key | both | {"visit_id": "report", "text": row["report"]}]
