"""Synthetic patients to pre-train on: other people and other cameras than those of any benchmark domain.

Input: number of patients, size, seed. Output: {raw}/images/ and a patients table. Every patient is photographed by a camera drawn at random
(format, colour, light, blur, noise), none of clipdr.data.synthetic.cameras.STYLES. Three visits per patient: both eyes with the report, and each eye
alone with one sentence that names its grade, so that single eyes and short prompts are in the trained space.
"""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.files import replacing
from clipdr.data.domains import DOMAINS
from clipdr.data.synthetic.cameras import Format, Style
from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import SIDES, cohort, eye, record
from clipdr.data.synthetic.renderer import paint
from clipdr.pretrain.data.patients_table import pack

NAME = "PRACTICE"
DRAWN = 192  # pixels, nominal side of a photograph
RESERVED = 1000  # seeds below are left to benchmarks


def camera(rng):
    """A Style drawn at random, wide enough to hold most fundus cameras. Lengths in radii of the field."""

    def between(low, high):
        return float(rng.uniform(low, high))

    def pair(low, high, spread):
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


def sentence(grade, rng):
    """One sentence that names a grade: a prompt of the graders' banks in one of their templates."""
    from clipdr.models.prompts import BANKS, TEMPLATES

    bank = BANKS[rng.choice(sorted(BANKS))]
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(bank[grade])


def draw(raw, data, patients, stored, seed, size=DRAWN):
    """Paint the patients below raw/images, pack them into data, and give their table.

    patients : in all, over the grade priors of all synthetic domains;  stored : pixels of the packed square;  size : pixels drawn
    seed     : RESERVED or more. Raises DataError below.
    """
    from rich.console import Console
    from rich.progress import track

    if seed < RESERVED:
        raise DataError(
            f"practice: seed {seed}; seeds below {RESERVED} draw benchmark patients, take another"
        )
    folder, rows = Path(raw) / "images", []
    domains = [name for name, domain in DOMAINS.items() if domain.synthetic]
    people = [
        patient
        for domain in domains
        for patient in cohort(domain, -(-patients // len(domains)), seed)
    ][:patients]
    for patient in track(people, "painting patients", console=Console(stderr=True)):
        rng = np.random.default_rng((seed, zlib.crc32(patient.domain.encode()), patient.number))
        style, row = camera(rng), record(patient, seed)
        key = {
            "dataset": NAME,
            "patient_id": f"{patient.domain}_{row['patient']}_{seed}",
            "language": "en",
        }
        for side, grade in patient.grades.items():
            name = f"{key['patient_id']}_{side}.jpg"
            quality = int(rng.integers(style.quality[0], style.quality[1] + 1))
            with replacing(folder / name) as path:
                path.write_bytes(
                    encode(
                        paint(eye(patient.domain, patient.number, side, grade, seed), size, style)[
                            0
                        ],
                        ".jpg",
                        quality,
                    )
                )
            row[f"image_{side}"] = name
            alone = {
                "visit_id": side,
                f"{side}_image": name,
                "text": sentence(grade, rng),
                f"grade_{side}": str(grade),
            }
            rows.append(key | alone | {f"text_{side}": alone["text"]})
        both = {f"{side}_image": row[f"image_{side}"] for side in SIDES} | {
            f"text_{side}": row[f"text_{side}"] for side in SIDES
        }
        both |= {f"grade_{side}": str(row[f"grade_{side}"]) for side in SIDES}
        rows.append(key | both | {"visit_id": "report", "text": row["report"]})
    table = pd.DataFrame(rows).fillna("")
    worst = table[["grade_left", "grade_right"]].apply(pd.to_numeric).max(axis=1)
    table = table.assign(
        split="",
        grade=worst.astype(int).astype(str),
        D=(worst > 0).astype(int),
        N=(worst == 0).astype(int),
    )
    return pack(table, folder, data, stored, 1)
