"""Synthetic patients: priors, splits, fellow eyes, histories."""

from collections import Counter

import numpy as np
import pytest

from clipdr.data.domains import SYNTHETIC
from clipdr.data.synthetic.patients import FEWEST, cohort, eye, prior, record


@pytest.mark.parametrize("domain", SYNTHETIC)
def test_priors_equal_those_of_the_imitated_domain(domain):
    grades = Counter(
        grade for patient in cohort(domain, 200, 3) for grade in patient.grades.values()
    )
    total = sum(grades.values())
    share = np.array([grades[grade] / total for grade in range(5)])
    assert np.abs(share - prior(domain)).max() < 0.011


@pytest.mark.parametrize("patients", [25, 60, 100])
@pytest.mark.parametrize("domain", SYNTHETIC)
def test_every_split_holds_every_grade_twice(domain, patients):
    for seed in range(3):
        group = cohort(domain, patients, seed)
        for split in ("train", "val"):
            counts = Counter(
                grade
                for patient in group
                if patient.split == split
                for grade in patient.grades.values()
            )
            assert all(counts[grade] >= FEWEST // 2 for grade in range(5)), (seed, split, counts)
        share = np.mean([patient.split == "val" for patient in group])
        assert share == pytest.approx(0.2, abs=0.12 if patients < 60 else 0.01)


def test_fellow_eyes_are_correlated_but_not_equal():
    pairs = np.array(
        [
            tuple(p.grades.values())
            for domain in SYNTHETIC
            for p in cohort(domain, 150, 1)
            if len(p.grades) == 2
        ]
    )
    assert 0.75 < np.corrcoef(pairs.T)[0, 1] < 0.97
    assert 0.5 < np.mean(pairs[:, 0] == pairs[:, 1]) < 0.9


def test_few_patients_are_monocular():
    group = cohort("SIM_RLDR", 100, 0)
    assert sum(len(patient.grades) == 1 for patient in group) == 4
    lone = next(patient for patient in group if len(patient.grades) == 1)
    absent = ({"left", "right"} - set(lone.grades)).pop()
    row = record(lone, 0)
    assert row[f"image_{absent}"] == row[f"text_{absent}"] == row[f"grade_{absent}"] == ""
    assert f"{absent.capitalize()} eye" not in row["report"]


def test_history_is_informative_and_has_gaps():
    rows = [record(patient, 0) for patient in cohort("SIM_DEEPDR", 150, 0)]
    worst = np.array(
        [
            max(int(row[name]) for name in ("grade_left", "grade_right") if row[name] != "")
            for row in rows
        ]
    )
    diabetic = np.array([row["diabetes_years"] != "" for row in rows])
    years = np.array([row["diabetes_years"] or 0 for row in rows], float)
    assert 0.3 < np.corrcoef(worst[diabetic], years[diabetic])[0, 1] < 0.95
    for row in rows:
        if row["diabetes"] == "no":
            assert row["diabetes_years"] == row["insulin"] == ""
    assert 0 < sum(row["age"] == "" for row in rows) < 30


def test_findings_follow_from_the_key_not_from_the_cohort():
    assert eye("SIM_FGADR", 3, "left", 2, 5) == eye("SIM_FGADR", 3, "left", 2, 5)
    keys = [
        ("SIM_FGADR", 3, "left", 5),
        ("SIM_FGADR", 3, "right", 5),
        ("SIM_FGADR", 4, "left", 5),
        ("SIM_FGADR", 3, "left", 6),
        ("SIM_IDRID", 3, "left", 5),
    ]
    assert len(
        {eye(domain, number, side, 2, seed).key for domain, number, side, seed in keys}
    ) == len(keys)
