"""Synthetic patients: grades, eyes, histories and clinical texts of a domain.

Input are domain, number of patients and seed. An eye follows from (seed, domain, number, side) and
its grade, independent of the size of the cohort.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipdr import DataError
from clipdr.data.domains import DOMAINS, FOLDERS
from clipdr.data.synthetic.anatomy import Eye
from clipdr.data.synthetic.cameras import STYLES
from clipdr.data.synthetic.clinical_text import describe
from clipdr.data.synthetic.findings import sample_findings, scottish

SIDES = ("left", "right")
VALIDATION = 0.2  # share of patients in the split "val"
MONOCULAR = 0.04  # share of patients with one image
FELLOW = 0.92  # correlation of the latent severities of a patient's eyes
# Images of each grade where there are FEWEST * 12 images or more, enough for two in each split.
FEWEST = 4
# What is sampled, in random keys. None is 0, because SeedSequence ignores trailing zeros.
SEVERITY, EYE, WORDS, IMAGE, HISTORY = range(1, 6)
COLUMNS = (
    *("domain", "patient", "split", "language"),
    *("age", "sex", "diabetes", "diabetes_years", "insulin", "hba1c", "hypertension"),
    *("grade_left", "grade_right", "sdrg_left", "sdrg_right", "image_left", "image_right"),
    *("report", "text_left", "text_right"),
)


@dataclass(frozen=True)
class Patient:
    """One patient.

    Args:
        domain: Synthetic domain.
        number: 1..N in its domain.
        split: "train" | "val".
        grades: Side -> 0..4, of eyes with an image only.
        severity: Mean latent severity of both eyes, standard normal over patients.
    """

    domain: str
    number: int
    split: str
    grades: dict[str, int]
    severity: float


def style_of(domain: str) -> str:
    """Return the real domain that a synthetic one imitates, a key of STYLES.

    Raises:
        DataError: The name is not that of a synthetic domain.
    """
    facts = DOMAINS.get(domain)
    if facts is None or not facts.synthetic:
        names = ", ".join(name for name, row in DOMAINS.items() if row.synthetic)
        raise DataError(f"{domain!r}: not a synthetic domain. Choose one of {names}.")
    return facts.imitates


def prior(domain: str) -> np.ndarray:
    """Return the share of each grade in the imitated domain, (5,) float64 with sum 1."""
    official = DOMAINS[style_of(domain)].counts or {}
    counts = np.sum(list(official.values()), 0)
    return counts / counts.sum()


def cohort(domain: str, patients: int, seed: int) -> list[Patient]:
    """Sample the patients of one domain.

    Grades have the imitated domain's prior and are correlated between the eyes. About one in five
    patients is in "val". Grades are cut from ranked latent severities, so that their shares are
    exact, except that no grade has fewer than FEWEST images. From about 25 patients on, each split
    holds each grade twice.

    Args:
        domain: Synthetic domain.
        patients: Number of patients, at least 1.
        seed: Seed, 0 or more.

    Raises:
        DataError: The domain is unknown, or there is less than one patient.
    """
    if patients < 1:
        raise DataError(f"synthetic patients: {patients} is too few. Give at least 1.")
    share, rng = prior(domain), _rng(seed, domain, SEVERITY)
    common, own = rng.standard_normal((patients, 1)), rng.standard_normal((patients, 2))
    severity = np.sqrt(FELLOW) * common + np.sqrt(1 - FELLOW) * own
    present = np.ones((patients, 2), bool)
    monocular = rng.permutation(patients)[: round(MONOCULAR * patients)]
    present[monocular, rng.integers(0, 2, len(monocular))] = False
    grade = np.full(present.shape, -1)
    grade[present] = _ranked(severity[present], share)
    val = _validation(grade, rng)
    return [
        Patient(
            domain,
            i + 1,
            "val" if val[i] else "train",
            _present(grade[i]),
            float(severity[i].mean()),
        )
        for i in range(patients)
    ]


def _rng(seed: int, domain: str, *words: int) -> np.random.Generator:
    """Random generator of a seed, a domain and further numbers."""
    return np.random.default_rng([seed, zlib.crc32(domain.encode()), *words])


def _present(pair: np.ndarray) -> dict[str, int]:
    """Side -> grade of the eyes with an image; -1 is absent."""
    return {side: int(grade) for side, grade in zip(SIDES, pair, strict=True) if grade >= 0}


def _ranked(severity: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Grades (M,) of severities (M,): the mildest have grade 0, in numbers near share * M."""
    total = len(severity)
    fewest = min(FEWEST, total // 12)
    counts = np.maximum(np.floor(share * total).astype(int), fewest)
    while counts.sum() != total:
        error = counts - share * total
        if counts.sum() < total:
            counts[np.argmin(error)] += 1
        else:
            counts[np.argmax(np.where(counts > fewest, error, -np.inf))] -= 1
    grade = np.empty(total, int)
    grade[np.argsort(severity, kind="stable")] = np.repeat(np.arange(5), counts)
    return grade


def _validation(grade: np.ndarray, rng: np.random.Generator, tries: int = 200) -> np.ndarray:
    """Sample about VALIDATION of the patients: grades (N, 2), -1 absent -> (N,) bool.

    First come two images of every grade (one where there are two or three), rarest first. Then
    comes every n-th of the other patients, ordered by the worse eye. Of many such samples, the
    first with as many images on the other side is taken, else the nearest.
    """
    number = np.array([(grade == g).sum() for g in range(5)])
    wanted = np.minimum(number // 2, 2)
    best, best_score = np.zeros(len(grade), bool), -1
    for _ in range(tries):
        val = np.zeros(len(grade), bool)
        for g in np.argsort(number, kind="stable"):
            for candidate in rng.permutation(np.flatnonzero((grade == g).any(1) & ~val)):
                if (grade[val] == g).sum() < wanted[g]:
                    val[candidate] = True
        others = rng.permutation(np.flatnonzero(~val))
        others = others[np.argsort(grade[others].max(1), kind="stable")]
        more = max(round(VALIDATION * len(grade)) - int(val.sum()), 0)
        val[others[((np.arange(more) + rng.random()) * len(others) / max(more, 1)).astype(int)]] = (
            True
        )
        score = sum(
            min((grade[side] == g).sum(), wanted[g]) for side in (val, ~val) for g in range(5)
        )
        if score > best_score:
            best, best_score = val, score
        if best_score == 2 * wanted.sum():
            break
    return best


def eye(domain: str, number: int, side: str, grade: int, seed: int) -> Eye:
    """Return one eye of a patient.

    Its findings follow from grade and key; cup, pigment and vessels are the patient's.

    Args:
        domain: Synthetic domain.
        number: Number of the patient, 1..N.
        side: "left" or "right".
        grade: Grade 0..4.
        seed: Seed of the cohort.
    """
    person, own = (
        _rng(seed, domain, number, EYE, 3),
        _rng(seed, domain, number, EYE, SIDES.index(side) + 1),
    )
    key = (seed, zlib.crc32(domain.encode()), number, IMAGE, SIDES.index(side) + 1)
    cup, pigment, tessellation, tortuosity = person.uniform((0.25, 0, 0, 0), (0.6, 1, 1, 1))
    cup = float(np.clip(cup + own.normal(0, 0.03), 0.2, 0.7))
    return Eye(
        side,
        sample_findings(grade, own),
        style_of(domain),
        key,
        cup,
        float(pigment),
        float(tessellation),
        float(tortuosity),
    )


def image_path(domain: str, number: int, side: str, grade: int) -> str:
    """Return the POSIX path of an image below `images/`, in GDRBench's layout."""
    return f"{domain}/{FOLDERS[grade]}/p{number:04d}_{side}{STYLES[style_of(domain)].suffix}"


def record(patient: Patient, seed: int) -> dict[str, Any]:
    """Return a patient's row of patients.csv, with the keys COLUMNS.

    A value is "" where it is missing or the eye has no image.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {
        "domain": patient.domain,
        "patient": f"p{patient.number:04d}",
        "split": patient.split,
        "language": "en",
    }
    row |= _history(patient, seed)
    for side, grade in patient.grades.items():
        rendered = eye(patient.domain, patient.number, side, grade, seed)
        rng = _rng(seed, patient.domain, patient.number, WORDS, SIDES.index(side) + 1)
        row[f"grade_{side}"], row[f"sdrg_{side}"] = grade, scottish(rendered.findings)
        row[f"image_{side}"] = image_path(patient.domain, patient.number, side, grade)
        row[f"text_{side}"] = describe(rendered.findings, rendered.cup, rendered.tessellation, rng)
    row["report"] = " ".join(
        f"{side.capitalize()} eye: {row[f'text_{side}']}"
        for side in reversed(SIDES)
        if side in patient.grades
    )
    return row


def _history(patient: Patient, seed: int) -> dict[str, Any]:
    """Sample age, sex and diabetes; years, insulin and HbA1c rise with severity, with much spread.

    Years and insulin are blank for patients without diabetes (as in BRSET). Elsewhere, one value in
    16 is missing.
    """
    rng, severity = _rng(seed, patient.domain, patient.number, HISTORY), patient.severity
    diabetic = max(patient.grades.values()) > 0 or rng.random() < 0.8
    years = int(np.clip(rng.normal(10 + 5 * severity, 4), 1, 45))
    insulin = "yes" if rng.random() < 1 / (1 + np.exp(-1.5 * severity)) else "no"
    hba1c = (
        np.clip(rng.normal(7.4 + 0.8 * severity, 0.8), 5.5, 14)
        if diabetic
        else rng.uniform(4.8, 6.0)
    )
    history = {
        "age": int(np.clip(rng.normal(56 + 3 * severity, 10), years + 8, 92)),
        "sex": "female" if rng.random() < 0.5 else "male",
        "diabetes": "yes" if diabetic else "no",
        "diabetes_years": years if diabetic else "",
        "insulin": insulin if diabetic else "",
        "hba1c": round(float(hba1c), 1),
        "hypertension": "yes" if rng.random() < 0.4 else "no",
    }
    optional = ("age", "diabetes_years", "hba1c", "hypertension")
    gone = rng.random(len(optional)) < 1 / 16
    return history | {name: "" for name, missing in zip(optional, gone, strict=True) if missing}
