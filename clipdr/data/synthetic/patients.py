"""Synthetic patients: who they are, what their eyes show, what is written of them. Input: domain, number of patients, seed; output: values.

A patient's eye follows from (seed, domain, number, side) and its grade, whatever the size of the cohort.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from clipdr import DataError
from clipdr.data.domains import DOMAINS, FOLDERS
from clipdr.data.synthetic.anatomy import Eye
from clipdr.data.synthetic.cameras import STYLES
from clipdr.data.synthetic.findings import describe, draw, scottish

SIDES = ("left", "right")
VALIDATION = 0.2  # share of patients in the split "val"
MONOCULAR = 0.04  # share of patients with one photograph
FELLOW = 0.92  # correlation of the latent severities of a patient's eyes
FEWEST = 4  # images of each grade where there are FEWEST * 12 images or more, enough for two in each split
SEVERITY, EYE, WORDS, PHOTOGRAPH, HISTORY = range(
    1, 6
)  # what is drawn, in random keys; none is 0, which SeedSequence takes for nothing
COLUMNS = (
    *("domain", "patient", "split", "language"),
    *("age", "sex", "diabetes", "diabetes_years", "insulin", "hba1c", "hypertension"),
    *("grade_left", "grade_right", "sdrg_left", "sdrg_right", "image_left", "image_right"),
    *("report", "text_left", "text_right"),
)


@dataclass(frozen=True)
class Patient:
    """One patient.

    number   : 1..N in its domain
    split    : "train" | "val"
    grades   : side -> 0..4, photographed eyes only
    severity : mean latent severity of both eyes, standard normal over patients
    """

    domain: str
    number: int
    split: str
    grades: dict[str, int]
    severity: float


def style_of(domain: str) -> str:
    """The real domain that a synthetic one imitates, a key of STYLES. Raises DataError for any other name."""
    known = DOMAINS.get(domain)
    if known is None or not known.synthetic:
        names = ", ".join(name for name, row in DOMAINS.items() if row.synthetic)
        raise DataError(f"synthetic: {domain!r} is not a synthetic domain; choose from {names}")
    return known.imitates


def prior(domain: str) -> np.ndarray:
    """Share of each grade, (5,) float64 summing to 1: that of the imitated domain, both splits together."""
    counts = np.sum(list(DOMAINS[style_of(domain)].counts.values()), 0)
    return counts / counts.sum()


def cohort(domain: str, patients: int, seed: int) -> list[Patient]:
    """Patients of one domain: grades with the imitated domain's prior, correlated between the eyes; about one in five patients is in "val".

    Grades are cut from ranked latent severities, so that their shares are exact save that no grade has fewer than FEWEST images; from about
    25 patients on, each split holds each grade twice. Raises DataError for an unknown domain or less than one patient.
    """
    if patients < 1:
        raise DataError(f"synthetic: patients is {patients}; give at least 1")
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


def _rng(seed, domain, *words):
    return np.random.default_rng([seed, zlib.crc32(domain.encode()), *words])


def _present(pair):
    return {side: int(grade) for side, grade in zip(SIDES, pair, strict=True) if grade >= 0}


def _ranked(severity, share):
    """(M,) severities -> (M,) grades: the mildest get grade 0, and so on, in numbers near share * M."""
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


def _validation(grade, rng, tries=200):
    """(N, 2) grades, -1 absent -> (N,) bool, about VALIDATION of the patients.

    First two images of every grade (one where there are two or three), rarest first, then every n-th of the other patients, ordered by the
    worse eye; of many such draws the first that leaves as many on the other side, else the one that comes nearest.
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
            min((grade[part] == g).sum(), wanted[g]) for part in (val, ~val) for g in range(5)
        )
        if score > best_score:
            best, best_score = val, score
        if best_score == 2 * wanted.sum():
            break
    return best


def eye(domain: str, number: int, side: str, grade: int, seed: int) -> Eye:
    """An eye of patient `number` (1..N): its findings follow from grade and key; cup, pigment and vessels are the patient's."""
    person, own = (
        _rng(seed, domain, number, EYE, 3),
        _rng(seed, domain, number, EYE, SIDES.index(side) + 1),
    )
    key = (seed, zlib.crc32(domain.encode()), number, PHOTOGRAPH, SIDES.index(side) + 1)
    cup, pigment, tessellation, tortuosity = person.uniform((0.25, 0, 0, 0), (0.6, 1, 1, 1))
    cup = float(np.clip(cup + own.normal(0, 0.03), 0.2, 0.7))
    return Eye(
        side,
        draw(grade, own),
        style_of(domain),
        key,
        cup,
        float(pigment),
        float(tessellation),
        float(tortuosity),
    )


def image_path(domain: str, number: int, side: str, grade: int) -> str:
    """POSIX path below `images/`, in GDRBench's layout."""
    return f"{domain}/{FOLDERS[grade]}/p{number:04d}_{side}{STYLES[style_of(domain)].suffix}"


def record(patient: Patient, seed: int) -> dict[str, object]:
    """Row of patients.csv: keys COLUMNS; an empty string where a value is missing or an eye was not photographed."""
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "domain": patient.domain,
        "patient": f"p{patient.number:04d}",
        "split": patient.split,
        "language": "en",
    }
    row |= _history(patient, seed)
    for side, grade in patient.grades.items():
        one = eye(patient.domain, patient.number, side, grade, seed)
        rng = _rng(seed, patient.domain, patient.number, WORDS, SIDES.index(side) + 1)
        row[f"grade_{side}"], row[f"sdrg_{side}"] = grade, scottish(one.findings)
        row[f"image_{side}"] = image_path(patient.domain, patient.number, side, grade)
        row[f"text_{side}"] = describe(one.findings, one.cup, one.tessellation, rng)
    row["report"] = " ".join(
        f"{side.capitalize()} eye: {row[f'text_{side}']}"
        for side in reversed(SIDES)
        if side in patient.grades
    )
    return row


def _history(patient, seed):
    """Age, sex and diabetes; years, insulin and HbA1c rise with severity, with much spread.

    Years and insulin are blank for patients without diabetes (as in BRSET); one value in 16 is missing elsewhere.
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
