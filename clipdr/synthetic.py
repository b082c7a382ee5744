"""Synthetic domains with known truth. Input: domain names, patients per domain, size, seed; output: GDRBench's folders and split files, and patients.csv.

Everything follows from (seed, domain, patient, eye): the number of processes, the order of work and the other domains change no byte. A photograph depends on its
grade and its key only, so `mask` draws the lesions of a written image again.
"""

import csv
import io
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from rich.progress import track

from clipdr import DataError
from clipdr.domains import DOMAINS, FOLDERS
from clipdr.findings import describe, draw, scottish
from clipdr.painter import Eye, paint
from clipdr.styles import STYLES

SIDES = ("left", "right")
VALIDATION = 0.2  # share of patients in the crossval split
MONOCULAR = 0.04  # share of patients with one photograph
FELLOW = 0.92  # correlation of the latent severities of a patient's eyes
FEWEST = 4  # images of each grade in a domain of at least 2 * 5 * FEWEST patients: two per split
SEVERITY, EYE, WORDS, PHOTOGRAPH, HISTORY = range(1, 6)  # last word of a random key: what is drawn from it
COLUMNS = (
    "domain patient split language age sex diabetes diabetes_years insulin hba1c hypertension grade_left grade_right sdrg_left sdrg_right "
    "image_left image_right report text_left text_right"
).split()


@dataclass(frozen=True)
class Patient:
    """One patient: number 1..N in its domain, split train | val, and the grade of each photographed eye, side -> 0..4."""

    domain: str
    number: int
    split: str
    grades: dict[str, int]
    severity: float  # mean latent severity of both eyes, standard normal over patients


def _rng(seed, domain, *words):
    return np.random.default_rng([seed, zlib.crc32(domain.encode()), *words])


def _style(domain):
    known = DOMAINS.get(domain)
    if known is None or not known.synthetic:
        names = ", ".join(name for name, row in DOMAINS.items() if row.synthetic)
        raise DataError(f"synthetic: {domain!r} is not a synthetic domain; choose from {names}")
    return known.imitates


def prior(domain: str) -> np.ndarray:
    """Share of each grade, (5,) float64 summing to 1: that of the imitated domain, both splits together. Raises DataError for an unknown domain."""
    counts = np.sum(list(DOMAINS[_style(domain)].counts.values()), 0)
    return counts / counts.sum()


def _allot(share, total, fewest):
    """Whole numbers near share * total, summing to total, none below `fewest`."""
    counts = np.maximum(np.floor(share * total).astype(int), fewest)
    while counts.sum() != total:
        error = counts - share * total
        if counts.sum() < total:
            counts[np.argmin(error)] += 1
        else:
            counts[np.argmax(np.where(counts > fewest, error, -np.inf))] -= 1
    return counts


def cohort(domain: str, patients: int, seed: int) -> list[Patient]:
    """Patients of one domain: grades with the imitated domain's prior, correlated between the eyes; about one in five patients is in `val`.

    Grades are cut from ranked latent severities, so that their shares are exact, and every split holds every grade twice if there are patients enough.
    """
    if patients < 1:
        raise DataError(f"synthetic: patients is {patients}; give at least 1")
    share, rng = prior(domain), _rng(seed, domain, SEVERITY)
    common, own = rng.standard_normal((patients, 1)), rng.standard_normal((patients, 2))
    severity = np.sqrt(FELLOW) * common + np.sqrt(1 - FELLOW) * own
    present = np.ones((patients, 2), bool)
    monocular = rng.permutation(patients)[: round(MONOCULAR * patients)]
    present[monocular, rng.integers(0, 2, len(monocular))] = False
    total = int(present.sum())
    counts = _allot(share, total, FEWEST if patients >= 2 * 5 * FEWEST else 0)
    grade = np.full(present.shape, -1)
    order = np.argsort(severity[present], kind="stable")
    ranked = np.empty(total, int)
    ranked[order] = np.repeat(np.arange(5), counts)
    grade[present] = ranked
    val = _validation(grade, rng)
    return [
        Patient(
            domain,
            i + 1,
            "val" if val[i] else "train",
            {side: int(g) for side, g in zip(SIDES, grade[i], strict=True) if g >= 0},
            float(severity[i].mean()),
        )
        for i in range(patients)
    ]


def _validation(grade, rng, tries=200):
    """(N, 2) grades, -1 absent -> (N,) bool, about VALIDATION of the patients. First two images of every grade, rarest first, then every n-th of the others,
    ordered by the worse eye; of many such draws the first that leaves two images of every grade on both sides, else the best."""
    quota, rarest = round(VALIDATION * len(grade)), np.argsort([(grade == g).sum() for g in range(5)], kind="stable")
    best, best_score = np.zeros(len(grade), bool), -1
    for _ in range(tries):
        val = np.zeros(len(grade), bool)
        for g in rarest:
            for candidate in rng.permutation(np.flatnonzero((grade == g).any(1) & ~val)):
                if (grade[val] == g).sum() < 2:
                    val[candidate] = True
        others = rng.permutation(np.flatnonzero(~val))
        others = others[np.argsort(grade[others].max(1), kind="stable")]
        more = max(quota - int(val.sum()), 0)
        val[others[((np.arange(more) + rng.random()) * len(others) / max(more, 1)).astype(int)]] = True
        score = sum(min(int((grade[part] == g).sum()), 2) for part in (val, ~val) for g in range(5))
        if score > best_score:
            best, best_score = val, score
        if best_score == 20:
            break
    return best


def eye(domain: str, number: int, side: str, grade: int, seed: int) -> Eye:
    """The eye of patient `number` (1..N): its findings follow from the grade and the key, its pigment and vessels from the patient."""
    person, own = _rng(seed, domain, number, HISTORY, EYE), _rng(seed, domain, number, SIDES.index(side) + 1, EYE)
    key = (seed, zlib.crc32(domain.encode()), number, SIDES.index(side) + 1, PHOTOGRAPH)
    cup, pigment, tessellation, tortuosity = person.uniform((0.25, 0, 0, 0), (0.6, 1, 1, 1))
    cup = float(np.clip(cup + own.normal(0, 0.03), 0.2, 0.7))
    return Eye(side, draw(grade, own), _style(domain), key, cup, float(pigment), float(tessellation), float(tortuosity))


def image_path(domain: str, number: int, side: str, grade: int) -> str:
    """POSIX path below `images/`."""
    return f"{domain}/{FOLDERS[grade]}/p{number:04d}_{side}{STYLES[_style(domain)].suffix}"


def mask(image: str, size: int, seed: int) -> np.ndarray:
    """Lesion mask (H, W) bool of a written image, from its path below `images/` and the size and seed it was written with."""
    domain, folder, name = PurePosixPath(image).parts[-3:]
    found = re.fullmatch(r"p(\d+)_(left|right)\.\w+", name)
    if found is None or folder not in FOLDERS:
        raise DataError(f"synthetic: {image!r} is not the path of a synthetic image; expected DOMAIN/FOLDER/p0001_left.jpg")
    return paint(eye(domain, int(found[1]), found[2], FOLDERS.index(folder), seed), size)[1]


def record(patient: Patient, seed: int) -> dict[str, object]:
    """Row of patients.csv: keys COLUMNS; empty string where a value is missing or an eye was not photographed."""
    row = dict.fromkeys(COLUMNS, "")
    row |= {"domain": patient.domain, "patient": f"p{patient.number:04d}", "split": patient.split, "language": "en"} | _history(
        patient, seed
    )
    for side, grade in patient.grades.items():
        one = eye(patient.domain, patient.number, side, grade, seed)
        rng = _rng(seed, patient.domain, patient.number, SIDES.index(side) + 1, WORDS)
        row[f"grade_{side}"], row[f"sdrg_{side}"] = grade, scottish(one.findings)
        row[f"image_{side}"] = image_path(patient.domain, patient.number, side, grade)
        row[f"text_{side}"] = describe(one.findings, one.cup, one.tessellation, rng)
    parts = [f"{side.capitalize()} eye: {row[f'text_{side}']}" for side in reversed(SIDES) if side in patient.grades]
    row["report"] = " ".join(parts)
    return row


def _history(patient, seed):
    """Age, sex and diabetes; years, insulin and HbA1c rise with severity. Some values are missing; years and insulin are blank exactly for patients without diabetes,
    and for a few others."""
    rng, severity = _rng(seed, patient.domain, patient.number, HISTORY), patient.severity
    diabetic = max(patient.grades.values()) > 0 or rng.random() < 0.8
    years = int(np.clip(rng.normal(10 + 5 * severity, 4), 1, 45))
    age = int(np.clip(rng.normal(56 + 3 * severity, 10), years + 8, 92))
    insulin = "yes" if rng.random() < 1 / (1 + np.exp(-1.5 * severity)) else "no"
    hba1c = float(np.clip(rng.normal(7.4 + 0.8 * severity, 0.8), 5.5, 14)) if diabetic else rng.uniform(4.8, 6.0)
    history = {
        "sex": "female" if rng.random() < 0.5 else "male",
        "age": age,
        "diabetes": "yes" if diabetic else "no",
        "diabetes_years": years if diabetic else "",
        "insulin": insulin if diabetic else "",
        "hba1c": round(hba1c, 1),
        "hypertension": "yes" if rng.random() < 0.4 else "no",
    }
    missing = rng.random(4) < 0.06
    return history | {name: "" for name, gone in zip(("age", "diabetes_years", "hba1c", "hypertension"), missing, strict=True) if gone}


# Writing -------------------------------------------------------------------------------------------------------------------------------


def encode(photograph: np.ndarray, suffix: str, quality: int) -> bytes:
    """Photograph (H, W, 3) uint8 as PNG or JPEG bytes."""
    settings = {".png": {"format": "PNG", "compress_level": 1}, ".jpg": {"format": "JPEG", "quality": quality}}
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, **settings[suffix])
    return buffer.getvalue()


def _save(path: Path, content: bytes):
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def _photograph(patient: Patient, root: Path, size: int, seed: int) -> None:
    """Paint and write the photographs of one patient."""
    for side, grade in patient.grades.items():
        one = eye(patient.domain, patient.number, side, grade, seed)
        style = STYLES[one.style]
        quality = int(np.random.default_rng((*one.key, WORDS)).integers(style.quality[0], style.quality[1] + 1))
        _save(root / "images" / image_path(patient.domain, patient.number, side, grade), encode(paint(one, size)[0], style.suffix, quality))


def _lines(patients: list[Patient], split: str) -> Iterator[str]:
    for patient in patients:
        for side, grade in patient.grades.items():
            if patient.split == split:
                yield f"{image_path(patient.domain, patient.number, side, grade)} {grade}\n"


def write(root: Path, domains: list[str], patients: int, size: int, seed: int, processes: int) -> None:
    """Write the domains below `root`: images/, splits/, patients.csv (one row per patient of these domains, columns COLUMNS).

    patients  : per domain
    size      : nominal side of a photograph in pixels, at least 64
    seed      : 0 or more
    processes : workers; 1 works in this process
    Raises DataError for a domain that is not synthetic and for numbers out of range. Images of an earlier run with the same names but other grades are removed.
    """
    if size < 64 or seed < 0 or processes < 1:
        raise DataError(f"synthetic: size {size}, seed {seed}, processes {processes}; they must be at least 64, 0 and 1")
    people = {domain: cohort(domain, patients, seed) for domain in domains}
    everyone = [patient for group in people.values() for patient in group]
    for domain in domains:
        for folder in FOLDERS:
            (root / "images" / domain / folder).mkdir(parents=True, exist_ok=True)
    work = partial(_photograph, root=root, size=size, seed=seed)
    if processes == 1:
        _exhaust(map(work, everyone), len(everyone))
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            _exhaust(pool.map(work, everyone, chunksize=4), len(everyone))
    (root / "splits").mkdir(exist_ok=True)
    for domain, group in people.items():
        lines = {split: list(_lines(group, split)) for split in ("train", "val")}
        keep = {line.rsplit(" ", 1)[0] for part in lines.values() for line in part}
        for old in (root / "images" / domain).glob("*/*"):
            if old.relative_to(root / "images").as_posix() not in keep:
                old.unlink()
        for split, name in (("train", "train"), ("val", "crossval")):
            _save(root / "splits" / f"{domain}_{name}.txt", "".join(lines[split]).encode())
    table = io.StringIO()
    rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(record(patient, seed) for patient in everyone)
    _save(root / "patients.csv", table.getvalue().encode())


def _exhaust(results, total):
    for _ in track(results, description="painting patients", total=total):
        pass
